"""The commands of the pages that no test can run: why, and what is looked at instead."""

import importlib.util
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..conftest import ROOT, BakedProject, run
from .doc_options import check_options

Check = Callable[[BakedProject, str], None]
# What a page leaves open: `<first machine>`.
OPEN = re.compile(r"<[\w ]+>")


@dataclass(frozen=True)
class Elsewhere:
    """Commands that are not run where they stand.

    Attributes:
        command: a pattern that matches the whole of them.
        reason: why not.
        check: fails where a command is wrong; it gets the project and the command.
    """

    command: str
    reason: str
    check: Check


def tested_by(name: str) -> Check:
    """The check is another test: `tested_by("test_tensorboard.py::test_texts_tell_what_ran")`."""

    def check(project: BakedProject, command: str) -> None:
        file, _, function = name.partition("::")
        texts = [path.read_text("utf-8") for path in (ROOT / "tests").rglob(file)]
        assert any(f"def {function}(" in text for text in texts), name

    return check


def check_make(project: BakedProject, command: str) -> None:
    """Make knows the target, and uses the variables."""
    words = shlex.split(command)
    run(words[0], "--dry-run", *words[1:], cwd=ROOT)
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for variable in re.findall(r"(\w+)=", command):
        assert f"$({variable})" in makefile, variable


def check_extra(project: BakedProject, command: str) -> None:
    """The project has the extra."""
    for extra in re.findall(r"--extra (\w+)", command):
        assert f"\n{extra} = [" in project.read("pyproject.toml"), extra


def check_train(project: BakedProject, command: str) -> None:
    """The script is there, and takes the options that follow it."""
    words = shlex.split(OPEN.sub("name", command))
    place = next(i for i, word in enumerate(words) if word.endswith((".py", ".sbatch")))
    assert (project.root / words[place]).is_file(), command
    check_options(project, "train", [word for word in words[place + 1 :] if word != "-m"])


def check_slurm(project: BakedProject, command: str) -> None:
    """The shell can read the script, and training takes the options."""
    (script,) = (word for word in shlex.split(command) if word.endswith(".sbatch"))
    project.run("bash", "-n", script)
    check_train(project, command)


def check_ray(project: BakedProject, command: str) -> None:
    """The cluster's file is there, and Ray, where it is installed, knows the options."""
    _, subcommand, *rest = shlex.split(OPEN.sub("host", command))
    for word in rest:
        assert not word.endswith(".yaml") or (project.root / word).is_file(), word
    if importlib.util.find_spec("ray") is not None:
        text = ray_help(subcommand)
        options = [word.partition("=")[0] for word in rest if word.startswith("-")]
        assert all(option in text for option in options), command


@cache
def ray_help(subcommand: str) -> str:
    """What Ray prints about a subcommand; it takes seconds."""
    return run("ray", subcommand, "--help", cwd=ROOT).stdout


def check_if_installed(project: BakedProject, command: str) -> None:
    """It runs, where the environment of the tests has the program."""
    words = shlex.split(command.removeprefix("uv run "))
    if (Path(sys.executable).parent / words[0]).exists():
        project.run(*words)


INSTALLED = "test_python_versions.py::test_project_installs_trains_and_passes_its_tests"
ELSEWHERE = [
    Elsewhere(
        r"uvx cookiecutter <.*>",
        "it takes the template from an address",
        tested_by("test_creation.py::test_from_a_git_address"),
    ),
    Elsewhere(r"make( .*)?", "it makes environments, and runs these tests", check_make),
    Elsewhere(r"uv sync( --extra \w+)?( && uv run pytest)?", "it downloads packages", check_extra),
    Elsewhere(
        r"pip install -e \.",
        "it downloads packages",
        tested_by("test_python_versions.py::test_project_installs_with_pip"),
    ),
    Elsewhere(
        r"pip install <.*>",
        "it downloads packages",
        tested_by("test_wheel.py::test_project_without_its_copy_trains_and_sweeps"),
    ),
    Elsewhere(r"uv run pytest", "it takes a minute", tested_by(INSTALLED)),
    Elsewhere(r"uv run pre-commit install", "it may not be installed", check_if_installed),
    Elsewhere(r"python train\.py trainer=(gpu .*|ddp)", "it needs a GPU", check_train),
    Elsewhere(
        r"python train\.py (-m )?experiment=(text_)?finetune .*",
        "it downloads weights, or takes those of transformers",
        check_train,
    ),
    Elsewhere(
        r'python -c "import (torchvision|timm).*|hf download .*',
        "it downloads weights",
        tested_by("test_backbones.py::test_missing_weights_are_explained"),
    ),
    Elsewhere(
        r"tensorboard --logdir logs",
        "it goes on until it is stopped",
        tested_by("test_tensorboard.py::test_table_compares_runs_by_their_best"),
    ),
    Elsewhere(
        r"uvx optuna-dashboard .*",
        "it downloads, and goes on until it is stopped",
        # Reads the journal as the dashboard does.
        tested_by("test_sweeps.py::test_sweep_leaves_the_files_it_promises"),
    ),
    Elsewhere(
        r"python serve\.py .*",
        "it goes on until it is stopped",
        tested_by("test_serve.py::test_picture_is_answered_as_by_predict"),
    ),
    Elsewhere(
        r"curl .*",
        "it needs the server",
        tested_by("test_serve.py::test_picture_is_answered_as_by_predict"),
    ),
    Elsewhere(
        r"docker .*",
        "it needs Docker",
        tested_by("test_container.py::test_ci_builds_the_image_and_trains_in_it"),
    ),
    Elsewhere(r"sbatch .*", "it needs SLURM", check_slurm),
    Elsewhere(r"srun uv run --no-sync train\.py", "it needs SLURM", check_train),
    Elsewhere(
        r"export RAY_AUTH_MODE=token", "it is for Ray", tested_by("test_sweep_ray.py::cluster")
    ),
    Elsewhere(r"ray .*", "it needs several machines, or an account", check_ray),
    Elsewhere(
        r"python train\.py -m hydra\.sweeper\.workers=ray .*",
        "it needs a cluster",
        check_train,
    ),
    Elsewhere(
        r"(uvx .*)?cruft( \w+)?|git (reset|commit) .*",
        "a part of the page about updates, named once more in its text",
        tested_by("test_doc_update.py::test_commands_of_the_page_print_what_it_shows"),
    ),
    Elsewhere(
        r"ruff check --config pyproject.toml \.",
        "make lint has it",
        lambda project, command: check_make(project, "make lint"),
    ),
]
