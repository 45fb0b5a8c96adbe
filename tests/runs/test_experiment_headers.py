"""An experiment whose header Hydra does not see: its values would be ignored without a word."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.in_process import Project

HEADER = "# @package _global_\n"
VALUES = "optimizer:\n  lr: 0.25\n"
SPACE = "optimizer.lr: interval(0.1, 0.2)\n"
SPACE_HEADER = "# @package hydra.sweeper.search_space\n"


@pytest.fixture(scope="module")
def project(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A copy of the demo, so that files can be added to its configs."""
    folder = tmp_path_factory.mktemp("headers")
    root = folder / "project"
    shutil.copytree(demo.root, root, ignore=shutil.ignore_patterns(".git", "logs", "__pycache__"))
    (root / "demo").rename(root / "demo_of_headers")
    for config in (root / "configs").rglob("*.yaml"):
        text = config.read_text("utf-8").replace("_target_: demo.", "_target_: demo_of_headers.")
        config.write_text(text, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(root)
        patch.setattr(sys, "argv", ["train.py"])
        yield Project(root, folder)


def write(project: Project, group: str, content: bytes) -> None:
    (project.root / "configs" / group / "own.yaml").write_bytes(content)


def learning_rate(project: Project, *options: str) -> Any:
    return project.configure("train", project.folder, *options).optimizer.lr


@pytest.mark.parametrize(
    "text",
    [
        HEADER + VALUES,
        "\ufeff" + HEADER + VALUES,
        (HEADER + VALUES).replace("\n", "\r\n"),
        "\ufeff" + (HEADER + VALUES).replace("\n", "\r\n"),
        "\n\n" + HEADER + VALUES,
        "#@package   _global_\n# Why this rate.\n" + VALUES,
    ],
    ids=["plain", "byte-order mark", "Windows", "both", "blank lines", "spaces"],
)
@pytest.mark.parametrize("group", ["experiment", "debug"])
def test_an_experiment_as_any_editor_saves_it_takes_effect(
    project: Project, group: str, text: str
) -> None:
    write(project, group, text.encode())
    assert learning_rate(project, f"{group}=own") == 0.25


@pytest.mark.parametrize(
    "text",
    [
        VALUES,
        "\ufeff" + VALUES,
        "# Why this rate.\n" + HEADER + VALUES,
        VALUES + HEADER,
        "# @package: _global_\n" + VALUES,
        "# package _global_\n" + VALUES,
        "# @package global\n" + VALUES,
        "# @package _global_ # everywhere\n" + VALUES,
        "# @package\n" + VALUES,
        "",
        (HEADER + VALUES).encode("utf-16").decode("latin-1"),
    ],
    ids=[
        "missing", "only a mark", "second line", "last line", "colon", "no @", "other package",
        "comment", "no package", "empty", "UTF-16",
    ],
)  # fmt: skip
@pytest.mark.parametrize("group", ["experiment", "debug"])
def test_an_experiment_that_would_have_no_effect_is_refused(
    project: Project, group: str, text: str
) -> None:
    is_utf_16 = text.startswith("ÿþ")
    write(project, group, text.encode("latin-1" if is_utf_16 else "utf-8"))
    with pytest.raises(project.module("errors").UserError) as refused:
        learning_rate(project, f"{group}=own")
    message = project.module("hydra_errors").explain(refused.value)
    assert str(project.root / "configs" / group / "own.yaml") in message
    assert ("UTF-8" if is_utf_16 else "header" if "package _global_ #" in text else "") in message
    assert "\n" not in message


def test_an_included_experiment_without_a_header_is_refused(project: Project) -> None:
    write(project, "experiment", VALUES.encode())
    outer = project.root / "configs" / "experiment" / "outer.yaml"
    outer.write_text(HEADER + "defaults:\n  - /experiment/own\n")
    with pytest.raises(project.module("errors").UserError, match="must begin with the line"):
        learning_rate(project, "experiment=outer")


def test_a_search_space_needs_its_own_header(project: Project) -> None:
    for text in (SPACE_HEADER + SPACE, "\ufeff" + SPACE_HEADER + SPACE):
        write(project, "search_space", text.encode())
        learning_rate(project, "search_space=own")
    write(project, "search_space", (HEADER + SPACE).encode())
    needed = "# @package hydra.sweeper.search_space"
    with pytest.raises(project.module("errors").UserError, match=needed):
        learning_rate(project, "search_space=own")


@pytest.mark.parametrize("start", ["", "\ufeff", "# Why this rate.\n" + HEADER, HEADER])
def test_an_experiment_given_by_its_path_takes_effect(
    project: Project, tmp_path: Path, start: str
) -> None:
    """The config of a run has no header, and can be run again."""
    path = tmp_path / "own.yaml"
    path.write_text(start + VALUES.replace("\n", "\r\n"), "utf-8")
    option = f"experiment={path}"
    project.module("experiment_files").register_experiments([option])
    assert learning_rate(project, option) == 0.25


def test_the_command_answers_with_one_sentence(demo: BakedProject, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(VALUES)
    command = ("python", "train.py", "--config-dir", str(tmp_path), "experiment=own")
    done = demo.run(*command, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {tmp_path}/experiment/own.yaml must begin with")
