"""The page that shows how to bring a model or data, and SimCLR, which is part of every project."""

import csv
import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import ROOT, Bake, BakedProject
from ..support.doc_code import Block, apply_edit, read_blocks
from ..support.training_runs import is_same, run_all, script

PAGE = ROOT / "docs" / "your-own-model.md"
SIMCLR = ("train.py", "experiment=digits_simclr", "logger=none")
PLAIN = ("train.py", "model=autoencoder", "logger=none", "trainer.max_epochs=1")


@dataclass(frozen=True)
class Examples:
    """Runs of a project into which the code of the page was copied.

    Attributes:
        project: the project.
        folder: holds the folder of each run.
        answers: of each command, by the name of its run: "", or a sentence.
    """

    project: BakedProject
    folder: Path
    answers: dict[str, str]

    def metrics(self, name: str) -> dict[str, dict[str, float]]:
        """Metrics of a training or an evaluation."""
        run = self.folder / name
        file = run / "run.json" if (run / "run.json").exists() else run / "metrics.json"
        metrics: dict[str, dict[str, float]] = json.loads(file.read_text("utf-8"))["metrics"]
        return metrics

    def log(self, name: str) -> str:
        """The log of a training."""
        return (self.folder / name / "run.log").read_text("utf-8")

    def saved(self, name: str) -> dict[str, Any]:
        """The last checkpoint, read without running what is in it."""
        path = self.folder / name / "checkpoints" / "last.ckpt"
        content: dict[str, Any] = torch.load(path, weights_only=True)
        return content


@pytest.fixture(scope="session")
def blocks() -> list[Block]:
    return read_blocks(PAGE)


@pytest.fixture(scope="session")
def project(bake: Bake, blocks: list[Block]) -> BakedProject:
    """A project with the files and edits of the page."""
    baked = bake(description="With the models of the page")
    for block in blocks:
        file = baked.root / block.file
        if block.language == "diff":
            file.write_text(apply_edit(file.read_text("utf-8"), block.code), "utf-8")
        elif block.file:
            assert not file.exists(), file
            file.write_text(block.code, "utf-8")
    return baked


@pytest.fixture(scope="session")
def examples(
    project: BakedProject, blocks: list[Block], tmp_path_factory: pytest.TempPathFactory
) -> Examples:
    """All runs in one process."""
    folder = tmp_path_factory.mktemp("examples")
    lines = [line for b in blocks if b.language == "bash" for line in b.code.splitlines()]
    best, last = "checkpoints/best.ckpt", "checkpoints/last.ckpt"
    alike = ("scheduler=constant", "callbacks.early_stopping=null", "trainer.max_epochs=2")
    commands = {
        f"page {number}": (*shlex.split(line)[1:], "trainer.max_epochs=1", "logger=none")
        for number, line in enumerate(lines)
    } | {
        "simclr": SIMCLR,
        "untrained": (*SIMCLR, "trainer.max_epochs=1", "optimizer.lr=0"),
        "simclr whole": (*SIMCLR, *alike),
        "simclr part": (*SIMCLR, *alike, "trainer.max_epochs=1"),
        "simclr on": (*SIMCLR, *alike, f"ckpt_path={folder / 'simclr part' / last}"),
        "simclr test": ("evaluate.py", f"ckpt_path={folder / 'simclr' / best}"),
        "simclr val": ("evaluate.py", f"ckpt_path={folder / 'simclr' / best}", "split=val"),
        "simclr features": (
            "predict.py",
            f"ckpt_path={folder / 'simclr' / best}",
            f"output={folder / 'features.csv'}",
        ),
        "misspelt": (*PLAIN, "objective.metric=val_los", "objective.mode=min"),
        "unread": (*PLAIN, "objective=null", "optimizer.lr=0.1"),
    }
    answers = run_all(
        project,
        *((*command, f"hydra.run.dir={folder / name}") for name, command in commands.items()),
    )
    return Examples(project, folder, dict(zip(commands, answers, strict=True)))


# The page


def test_commands_of_the_page_train(examples: Examples) -> None:
    """Code that does not run as it stands is worse than none."""
    names = [name for name in examples.answers if name.startswith("page")]
    assert len(names) == 7
    for name in names:
        assert examples.answers[name] == "", name
        assert json.loads((examples.folder / name / "run.json").read_text())["status"] == "finished"
    # In their order: the autoencoder with an objective and without, then other data.
    assert {"train_loss", "val_loss"} <= examples.metrics("page 0")["best"].keys()
    assert {path.name for path in (examples.folder / "page 1" / "checkpoints").iterdir()} == {
        "last.ckpt"
    }
    assert "no test: Autoencoder has no test_step" in examples.log("page 1")
    assert 0.3 < examples.metrics("page 2")["test"]["test/acc"] <= 1


def test_objective_of_a_plain_model_is_checked_by_what_it_logged(examples: Examples) -> None:
    answer = examples.answers["misspelt"]
    assert "val_los" in answer
    assert "val_loss" in answer.replace("val_los ", "")


def test_option_that_a_plain_model_never_reads_is_refused(examples: Examples) -> None:
    """A rate that is given and not used would be reported as if it had been."""
    assert "optimizer.lr" in examples.answers["unread"]
    assert not (examples.folder / "unread").exists()


def test_checks_of_the_page_pass(project: BakedProject) -> None:
    done = script(project, "-m", "pytest", "-q", "tests/test_autoencoder.py")
    assert "7 passed, 1 deselected" in done.stdout


def test_code_of_the_page_is_clean(project: BakedProject) -> None:
    """Readers copy it, with its faults."""
    for check in (("check",), ("format", "--check")):
        project.run("ruff", *check, "my_project/models", "my_project/data", "tests")


@pytest.mark.slow
def test_types_of_the_page_are_right(project: BakedProject) -> None:
    project.run("mypy", ".")


def test_excerpts_of_the_page_are_the_code(project: BakedProject, blocks: list[Block]) -> None:
    """An explanation of code that is no longer there explains nothing."""
    code = project.read("my_project/models/simclr/simclr.py")
    excerpts = [b.code for b in blocks if b.language == "python" and b.heading.startswith("4.")]
    assert len(excerpts) == 2
    for excerpt in excerpts:
        assert excerpt in code


# SimCLR


def test_simclr_learns_features_without_labels(examples: Examples) -> None:
    """Random features also tell digits apart, so only the difference shows that it learnt."""
    assert examples.answers["simclr"] == examples.answers["untrained"] == ""
    trained, untrained = (examples.metrics(name) for name in ("simclr", "untrained"))
    for part, metric in (("best", "val/probe_acc"), ("test", "test/probe_acc")):
        assert trained[part][metric] > 0.92
        # Less than half of the mistakes.
        assert 1 - trained[part][metric] < 0.5 * (1 - untrained[part][metric])
    assert trained["test"].keys() == {"test/loss", "test/probe_acc"}
    # Chance is log(2 * 256 - 1), 6.2.
    assert trained["final"]["val/loss"] < 4 < untrained["final"]["val/loss"]


def test_resumed_simclr_equals_an_uninterrupted_one(examples: Examples) -> None:
    """Random views must not make a killed run end elsewhere."""
    whole, on = examples.saved("simclr whole"), examples.saved("simclr on")
    assert is_same(whole["state_dict"], on["state_dict"])
    assert is_same(whole["optimizer_states"], on["optimizer_states"])
    assert not is_same(whole["state_dict"], examples.saved("simclr part")["state_dict"])
    assert examples.metrics("simclr whole")["final"] == examples.metrics("simclr on")["final"]


def test_evaluation_of_simclr_repeats_its_metrics(examples: Examples) -> None:
    """Random views, or another probe, would give another number each time."""
    test, val = examples.metrics("simclr test")["test"], examples.metrics("simclr val")["val"]
    trained = examples.metrics("simclr")
    assert test == pytest.approx(trained["test"], abs=1e-5)
    assert val == pytest.approx({name: trained["best"][name] for name in val}, abs=1e-5)
    assert val.keys() == {"val/loss", "val/probe_acc"}
    pictures = {path.name for path in (examples.folder / "simclr test").glob("*/*")}
    assert pictures == {"pca.png"}


def test_predictions_of_simclr_are_its_features(examples: Examples) -> None:
    with (examples.folder / "features.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    # A header, and a fifth of 1,797 images with 32 features each.
    assert (len(rows), {len(row) for row in rows}) == (1 + 359, {32})
