"""The page about other Hydra applications: its application sweeps and continues as it says."""

import shlex
import sys
from pathlib import Path

import pytest
import yaml

from ..conftest import ROOT, run
from ..support.applications import Application, make_library
from ..support.doc_code import read_blocks
from ..support.sweeps import Swept

PAGE = ROOT / "docs" / "any-hydra-app.md"


@pytest.mark.slow
def test_application_of_the_page_sweeps(tmp_path: Path) -> None:
    """The first thing a reader tries is the example."""
    app = Application(tmp_path, sys.executable, str(make_library(tmp_path / "library")))
    blocks = read_blocks(PAGE)
    for block in blocks:
        if block.file:
            (tmp_path / block.file).parent.mkdir(exist_ok=True)
            (tmp_path / block.file).write_text(block.code, "utf-8")
    (commands,) = (block.code.splitlines() for block in blocks if block.language == "bash")
    found = []
    for command in commands:
        words = (app.python, *shlex.split(command)[1:])
        run(*words, cwd=tmp_path, check=True, **app.environment)
        (folder,) = (tmp_path / "multirun").iterdir()
        found.append(Swept(folder).states())
    assert found == [{"COMPLETE": 20}, {"COMPLETE": 40}]


def test_config_of_another_sweeper_has_known_options() -> None:
    """The options of the page are those of the sweeper."""
    offered = yaml.safe_load((ROOT / "wheel" / "workbench.yaml").read_text("utf-8"))
    for block in read_blocks(PAGE):
        if "sweeper: workbench" in block.code:
            options = yaml.safe_load(block.code)["hydra"]["sweeper"]
            assert options.keys() <= offered.keys() | {"sampler", "pruner"}


def test_sweeper_has_the_options_of_a_project() -> None:
    """An option that is added for projects is not forgotten here."""
    (project,) = ROOT.glob("{{=*/configs/hydra/sweeper/optuna.yaml")
    text = project.read_text("utf-8")
    names = {line.partition(":")[0] for line in text.splitlines() if line[:1].isalpha()}
    offered = yaml.safe_load((ROOT / "wheel" / "workbench.yaml").read_text("utf-8"))
    assert names - offered.keys() == {"test"}
