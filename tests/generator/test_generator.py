"""Every combination of answers bakes to exactly the files it promises, all of them valid."""

import ast
import json
import re
import tomllib
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..conftest import Bake, BakedProject, run

COMBINATIONS: dict[str, dict[str, str]] = {
    "defaults": {},
    "apache": {"license": "Apache-2.0"},
    "bsd": {"license": "BSD-3-Clause", "author_email": "ada@example.org"},
    "proprietary": {"license": "Proprietary"},
    "diabetes": {"starting_point": "diabetes"},
    "wandb": {"logger": "wandb"},
    "mlflow": {"logger": "mlflow"},
    "csv": {"logger": "csv"},
    "gitlab": {"ci": "gitlab"},
    "no_ci": {"ci": "none"},
    "oldest_python": {"python_version": "3.11"},
    "newest_python": {"python_version": "3.13"},
    "renamed": {"project_name": "Größe & Co.", "package_name": "nets"},
    "all_different": {
        "project_slug": "3d-scans",
        "license": "Proprietary",
        "starting_point": "diabetes",
        "logger": "mlflow",
        "ci": "gitlab",
        "python_version": "3.13",
    },
}

# The files that stand in a project for some answers only. The rest of the template is for all.
FILES_OF_ANSWERS: dict[tuple[str, str], set[str]] = {
    ("license", "MIT"): {"LICENSE"},
    ("license", "Apache-2.0"): {"LICENSE"},
    ("license", "BSD-3-Clause"): {"LICENSE"},
    ("license", "Proprietary"): {"LICENSE"},
    ("ci", "github"): {".github/dependabot.yml", ".github/workflows/tests.yml"},
    ("ci", "gitlab"): {".gitlab-ci.yml"},
}

LICENSES = {
    "MIT": ("Permission is hereby granted, free of charge", "MIT"),
    "Apache-2.0": ("END OF TERMS AND CONDITIONS", "Apache-2.0"),
    "BSD-3-Clause": ("3. Neither the name of the copyright holder", "BSD-3-Clause"),
    "Proprietary": ("All rights reserved.", "LicenseRef-Proprietary"),
}


@pytest.fixture(params=COMBINATIONS, scope="module")
def answers(request: pytest.FixtureRequest, template: Path) -> dict[str, str]:
    """All answers of a combination, the defaults included."""
    questions: dict[str, Any] = json.loads((template / "cookiecutter.json").read_text())
    defaults = {name: value[0] for name, value in questions.items() if isinstance(value, list)}
    return defaults | COMBINATIONS[request.param]


@pytest.fixture
def project(bake: Bake, answers: dict[str, str]) -> BakedProject:
    """The project of a combination."""
    return bake(**(answers | {"git": "no"}))


def test_project_has_exactly_its_files(
    project: BakedProject, answers: dict[str, str], template: Path
) -> None:
    """A missing file breaks the project, a left-over one puzzles its owner."""
    package = tomllib.loads(project.read("pyproject.toml"))["tool"]["hatch"]["build"]["targets"]
    package_name = package["wheel"]["packages"][0]
    always = {
        file.replace("{{=cookiecutter.package_name}}", package_name)
        for file in template_files(template)
        if "{%=" not in file
    }
    chosen = [FILES_OF_ANSWERS.get(answer, set()) for answer in answers.items()]
    assert project.files() == always.union(*chosen)
    assert not project.empty_folders()


def test_every_conditional_file_is_told_above(template: Path) -> None:
    """A new file that depends on an answer must be checked for the other answers too."""
    names = {file for file in template_files(template) if "{%=" in file}
    pattern = re.compile(r"\{%= if cookiecutter\.(\w+) == '([^']+)' %\}(.+)\{%= endif %\}")
    told = {
        ((match[1], match[2]), name[: match.start()] + match[3])
        for name in names
        if (match := pattern.search(name))
    }
    assert len(told) == len(names), "write the condition as {%= if cookiecutter.x == 'y' %}"
    assert told == {(answer, file) for answer, files in FILES_OF_ANSWERS.items() for file in files}


def test_nothing_of_the_template_is_left(project: BakedProject) -> None:
    """An unrendered mark is a syntax error in Python, TOML and YAML, or nonsense in text."""
    marks = ("{{=", "{%=", "{#=", "cookiecutter.")
    left = {
        (file, mark) for file in project.files() for mark in marks if mark in project.read(file)
    }
    assert not left


def test_all_files_parse(project: BakedProject) -> None:
    """A project that cannot be read cannot be installed, run or tested."""
    for file in project.files():
        parse(file, project.read(file))


def test_text_is_tidy(project: BakedProject) -> None:
    """Otherwise the first commit of the owner would fail in the project's own pre-commit hooks."""
    for file in project.files():
        text = project.read(file)
        assert not re.search(r"[ \t]$", text, re.MULTILINE), f"{file} has spaces at a line's end"
        assert text == "" or re.search(r"[^\n]\n\Z", text), f"{file} does not end with one newline"


def test_project_passes_its_own_linter(project: BakedProject) -> None:
    """The owner's CI would be red from the first push."""
    project.run("ruff", "check", "--no-cache")
    project.run("ruff", "format", "--check", "--no-cache")


@pytest.mark.slow
def test_all_of_the_template_is_typed(bake: Bake, pytestconfig: pytest.Config) -> None:
    """A project is lenient with its owner's models and data; what it starts with is strict."""
    assert pytestconfig.cache
    # Most of the time goes into torch, which is the same the next time.
    cache = str(pytestconfig.cache.mkdir("mypy"))
    project = bake(project_name="Strict", **COMBINATIONS["all_different"])
    # As for the machinery, so for all.
    settings = project.read("pyproject.toml")
    strict = re.sub(
        r"(Strict for the library.*?\nmodule = )\[.*?\]", r'\1["*"]', settings, flags=re.DOTALL
    )
    assert strict != settings
    (project.root / "pyproject.toml").write_text(strict, "utf-8")
    project.run("mypy", "--cache-dir", cache, ".")


def test_license_is_the_chosen_one(project: BakedProject, answers: dict[str, str]) -> None:
    """A wrong licence is a legal mistake made in the owner's name."""
    phrase, identifier = LICENSES[answers["license"]]
    text = project.read("LICENSE")
    metadata = tomllib.loads(project.read("pyproject.toml"))["project"]
    assert phrase in text
    assert str(datetime.now(UTC).year) in text
    assert metadata["authors"][0]["name"] in text
    assert metadata["license"] == identifier
    assert ("Private :: Do Not Upload" in metadata.get("classifiers", [])) == (
        answers["license"] == "Proprietary"
    )


def test_answers_reach_the_project(project: BakedProject, answers: dict[str, str]) -> None:
    """An answer that is asked for and then ignored is a broken promise."""
    metadata = tomllib.loads(project.read("pyproject.toml"))["project"]
    defaults = yaml.safe_load(project.read("configs/train.yaml"))["defaults"]
    choices = {
        key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()
    }
    names = {Requirement(text).name for text in metadata["dependencies"]}
    assert project.read(".python-version").strip() == answers["python_version"]
    assert choices["logger"] == answers["logger"]
    assert choices["experiment"] == answers["starting_point"]
    assert {"wandb", "mlflow"} & names == {"wandb", "mlflow"} & {answers["logger"]}


@pytest.mark.parametrize(
    ("project_name", "slug", "package"),
    [
        ("Cats & Dogs", "cats-dogs", "cats_dogs"),
        ("3D Nets", "3d-nets", "project_3d_nets"),
        ("Größe", "grosse", "grosse"),
        ("😀", "my-project", "my_project"),
        ("x" * 80, "x" * 50, "x" * 50),
    ],
)
def test_names_derive_from_the_name(bake: Bake, project_name: str, slug: str, package: str) -> None:
    """Most people take the suggested names, so these must be good for any name."""
    project = bake(project_name=project_name)
    assert project.root.name == slug
    assert tomllib.loads(project.read("pyproject.toml"))["project"]["name"] == slug
    assert f"{package}/__init__.py" in project.files()


def test_library_is_the_same_in_every_project(bake: Bake, template: Path) -> None:
    """An update replaces it, and the installed library can stand in for it."""
    (lying,) = template.glob("{{=*")
    names = {"project_name": "Other Words", "package_name": "nets", "description": "Else"}
    author = {"author_name": "Grace", "author_email": "grace@example.org"}
    other = bake(**names, **author, **COMBINATIONS["all_different"])
    for root in (bake().root, other.root):
        for part in ("workbench", "hydra_plugins"):
            run("diff", "--recursive", str(lying / part), str(root / part), cwd=root)


def test_choices_offered_exist(bake: Bake, template: Path) -> None:
    """An answer without a config file behind it would end in Hydra's error at the first run."""
    questions = json.loads((template / "cookiecutter.json").read_text())
    files = bake().files()
    assert {f"configs/logger/{name}.yaml" for name in questions["logger"]} <= files
    assert {f"configs/experiment/{name}.yaml" for name in questions["starting_point"]} <= files


def test_every_question_is_explained(template: Path) -> None:
    """A bare variable name tells a newcomer nothing."""
    questions: dict[str, Any] = json.loads((template / "cookiecutter.json").read_text())
    prompts = questions["__prompts__"]
    public = {name: value for name, value in questions.items() if not name.startswith("_")}
    assert prompts.keys() == public.keys()
    for name, value in public.items():
        if isinstance(value, list):
            assert prompts[name].keys() == {"__prompt__", *value}


def test_actions_are_pinned(bake: Bake) -> None:
    """A tag can be moved to other code; a commit cannot."""
    workflow = bake().read(".github/workflows/tests.yml")
    uses = re.findall(r"uses: (.+)", workflow)
    assert uses
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", use) for use in uses)
    assert yaml.safe_load(workflow)["permissions"] == {"contents": "read"}


def test_root_folders_do_not_hide_the_package(bake: Bake) -> None:
    """A careless rule for data/ would keep the package's data/ out of the first commit."""
    project = bake()
    project.run("git", "init", "--quiet")
    ignored = project.run("git", "ls-files", "--others", "--ignored", "--exclude-standard").stdout
    (project.root / "data").mkdir()
    (project.root / "data" / "raw.bin").touch()
    status = project.run("git", "status", "--porcelain", "--untracked-files=all").stdout
    (project.root / "data" / "raw.bin").unlink()
    (project.root / "data").rmdir()
    assert ignored == ""
    assert "raw.bin" not in status


def test_refused_names_cover_the_dependencies(bake: Bake, pre_gen: Any) -> None:
    """A project called like its dependency depends on itself; a package hides the installed one."""
    metadata = tomllib.loads(bake().read("pyproject.toml"))
    project = metadata["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    groups += metadata["dependency-groups"].values()
    direct = {canonicalize_name(Requirement(text).name) for group in groups for text in group}
    imported = {
        name
        for name, owners in packages_distributions().items()
        if re.fullmatch("[a-z][a-z0-9_]*", name) and direct & set(map(canonicalize_name, owners))
    }
    assert direct <= pre_gen.DISTRIBUTIONS
    assert {name for name in imported if not pre_gen.check_package(name)} == set()


def test_refused_names_cover_what_stands_beside(bake: Bake, pre_gen: Any) -> None:
    """A package called tests or train would be two things at once."""
    project = bake()
    beside = {Path(file).parts[0].removesuffix(".py") for file in project.files()} - {"my_project"}
    names = {name for name in beside if re.fullmatch("[a-z][a-z0-9_]*", name)}
    assert {name for name in names if not pre_gen.check_package(name)} == set()


def template_files(template: Path) -> list[str]:
    """Return the files of the generated project under their names in the template."""
    (folder,) = template.glob("{{=*")
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


@cache
def parse(file: str, text: str) -> None:
    """Parse a file by its kind; most are the same in all projects."""
    match Path(file).suffix or Path(file).name:
        case ".py":
            ast.parse(text, file)
        case ".toml":
            tomllib.loads(text)
        case ".yaml" | ".yml":
            list(yaml.safe_load_all(text))
        case ".json":
            json.loads(text)
