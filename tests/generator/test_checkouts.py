"""Generation on other systems, as far as they can be imitated: line endings, names, consoles."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from cookiecutter.main import cookiecutter

from ..conftest import ROOT, Bake, BakedProject, run
from ..support.training_runs import ON_CPU

# A console of Western Windows, and a locale without any encoding.
CONSOLE = {
    "PYTHONIOENCODING": "cp1252",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "LC_ALL": "C",
}
EXPERIMENT = "# @package _global_\n# Größe → 日本\nname: large\nmodel: {net: {width: 8}}\n"


def contents(folder: Path) -> dict[str, bytes]:
    """The content of each file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_windows_checkout_gives_the_same_project(
    template: Path, bake: Bake, tmp_path: Path
) -> None:
    """Scripts with the line endings of Windows do not start on a cluster."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    shutil.copytree(template, origin)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.autocrlf=true")
    run(*git, "init", "--quiet", cwd=origin)
    run(*git, "add", "--all", cwd=origin)
    run(*git, "commit", "--quiet", "--message=first", cwd=origin)
    run(*git, "clone", "--quiet", str(origin), str(clone), cwd=tmp_path)
    answers = {"git": "no"}
    project = cookiecutter(str(clone), no_input=True, output_dir=tmp_path, extra_context=answers)
    expected = contents(bake(git="no").root)
    found = contents(Path(project))
    compiled = "__pycache__"
    different = [
        file
        for file in expected.keys() | found.keys()
        if compiled not in file and expected.get(file) != found.get(file)
    ]
    assert different == []


def test_converted_template_gives_the_same_text(template: Path, bake: Bake, tmp_path: Path) -> None:
    """An archive that was converted as a whole has no git to keep its line endings."""
    copy = tmp_path / "converted"
    shutil.copytree(template, copy)
    for path in copy.rglob("*"):
        if path.is_file() and b"\0" not in (content := path.read_bytes()):
            path.write_bytes(content.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    answers = {"git": "no"}
    project = cookiecutter(str(copy), no_input=True, output_dir=tmp_path, extra_context=answers)
    plain = {file: c.replace(b"\r\n", b"\n") for file, c in contents(Path(project)).items()}
    expected = {f: c for f, c in contents(bake(git="no").root).items() if "__pycache__" not in f}
    assert plain == expected


def test_no_two_files_differ_only_in_case(template: Path, bake: Bake) -> None:
    """On Windows and macOS, one would overwrite the other."""
    for root in (template, bake().root):
        paths = [path.relative_to(root).as_posix().lower() for path in root.rglob("*")]
        assert [path for path, count in Counter(paths).items() if count > 1] == []


def test_project_runs_on_a_console_without_unicode(bake: Bake, tmp_path: Path) -> None:
    """A table whose lines the console cannot print would end a training with a traceback."""
    project = bake(project_name="Console", description="Größe 日本")
    (project.root / "configs" / "experiment" / "large.yaml").write_text(EXPERIMENT, "utf-8")
    folder = tmp_path / "runs" / "one"
    options = ("experiment=large", "trainer.max_epochs=1", f"hydra.run.dir={folder}")
    done = project.run("python", "train.py", *options, check=True, **CONSOLE, **ON_CPU)
    assert "test" in done.stdout and "Traceback" not in done.stderr
    assert names_of_files_differ(folder)
    listed = project.run("python", "runs.py", str(tmp_path / "runs"), check=True, **CONSOLE)
    assert "one" in listed.stdout
    described = project.run("python", "train.py", "--help", "model", check=True, **CONSOLE)
    assert "mlp" in described.stdout


def names_of_files_differ(folder: Path) -> bool:
    """Whether no two files of a run differ only in case."""
    names = [path.relative_to(folder).as_posix().lower() for path in folder.rglob("*")]
    return len(names) == len(set(names))


def steps(workflow: Path, job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(workflow.read_text("utf-8"))["jobs"][job]["steps"]
    return found


def test_other_systems_run_what_the_readme_says(bake: Bake) -> None:
    """There is no make on Windows; CI runs the commands that a reader would type."""
    commands = [step.get("run") for step in steps(ROOT / ".github/workflows/ci.yml", "project")]
    assert {"uv sync", "uv run train.py", "uv run pytest"} <= set(commands)
    readme = bake().read("README.md")
    assert "uv sync\nuv run train.py\n" in readme
    assert "uv run pytest" in readme


def test_supply_chain_of_a_project(bake: Bake) -> None:
    """Pinned actions that nobody updates, or packages that nobody can list."""
    project: BakedProject = bake()
    updates = yaml.safe_load(project.read(".github/dependabot.yml"))["updates"]
    assert {update["package-ecosystem"] for update in updates} == {"github-actions", "uv"}
    commands = [
        step.get("run", "") for step in steps(project.root / ".github/workflows/tests.yml", "tests")
    ]
    assert any("cyclonedx-py environment" in command for command in commands)
    assert any("pip-audit" in command for command in commands)
    gitlab = yaml.safe_load(bake(ci="gitlab").read(".gitlab-ci.yml"))["tests"]
    (listing,) = (command for command in gitlab["script"] if "cyclonedx-py" in command)
    assert f"--output-file {gitlab['artifacts']['paths'][0]}" in listing
    assert any("pip-audit" in command for command in gitlab["script"])
