"""The page about the design: its six changes are made in a new project, and its commands run."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, Bake, BakedProject
from ..support.doc_code import BLOCK, FILE, apply_edit
from ..support.training_runs import script

PAGE = ROOT / "docs" / "design.md"
CHANGES = (
    "Change the loss",
    "Add a metric",
    "Add a network",
    "Add a dataset",
    "Add a callback",
    "Add a plot",
)
SHORT = ("trainer.max_epochs=1", "logger=none")


def sections() -> dict[str, str]:
    """The text below each heading of the third level."""
    parts = re.split(r"^##+ (.*)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def files_of(text: str) -> list[tuple[str, str, str]]:
    """The file, the language and the code of each block that belongs to a file."""
    found = []
    for match in BLOCK.finditer(text):
        file = FILE.search(text[: match.start()])
        if file:
            found.append((file[1], match[1], match[2]))
    return found


@pytest.fixture(scope="session")
def project(bake: Bake) -> BakedProject:
    """A project with all changes of the page."""
    baked = bake(description="With the six changes")
    for change in CHANGES:
        for file, language, code in files_of(sections()[change]):
            path = baked.root / file
            assert path.exists() == (language == "diff"), file
            new = apply_edit(path.read_text("utf-8"), code) if language == "diff" else code
            path.write_text(new, "utf-8")
    return baked


@pytest.mark.parametrize("change", CHANGES)
def test_change_takes_one_or_two_files_outside_the_library(change: str) -> None:
    """Users who must edit the library cannot take in its next version."""
    files = {file for file, _, _ in files_of(sections()[change])}
    assert 1 <= len(files) <= 2
    assert all(file.startswith(("my_project/", "configs/")) for file in files)


@pytest.fixture(scope="session")
def runs(project: BakedProject) -> dict[str, Path]:
    """The folder of the run or the evaluation of each change."""
    found = {}
    for change in CHANGES:
        (command,) = re.findall(r"^python (.*)$", sections()[change], re.MULTILINE)
        words = shlex.split(command)
        options = SHORT if words[0] == "train.py" else ()
        before = set(project.root.glob("logs/*/runs/*"))
        script(project, *words, *options)
        (found[change],) = set(project.root.glob("logs/*/runs/*")) - before
    return found


def manifest(folder: Path) -> dict[str, Any]:
    """What `run.json` states."""
    content: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))
    return content


def test_changes_take_effect(runs: dict[str, Path]) -> None:
    """A command that trains as before would pass unnoticed."""
    assert manifest(runs["Change the loss"])["config"]["model"]["loss"]["name"] == "focal"
    assert "val/auroc" in manifest(runs["Add a metric"])["metrics"]["best"]
    assert manifest(runs["Add a network"])["config"]["model"]["net"]["name"] == "gated"
    assert "wine" in manifest(runs["Add a dataset"])["config"]["data"]["_target_"]
    assert manifest(runs["Add a callback"])["metrics"]["best"]["weight_norm"] > 0
    assert (runs["Add a plot"] / "figures" / "confidence.png").is_file()


def test_changed_project_passes_its_linter(project: BakedProject, runs: dict[str, Path]) -> None:
    """Code to copy must not fail the user's first CI run."""
    project.run("ruff", "check", "--no-cache")
    project.run("ruff", "format", "--check", "--no-cache")
