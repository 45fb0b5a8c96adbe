"""Models that are not plain supervised learning, and the page that shows how to write them."""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from .conftest import ROOT, Bake, BakedProject
from .doc_code import Block, apply_edit, read_blocks
from .one_process import run_all
from .training_runs import is_same, script

PAGE = ROOT / "docs" / "your-own-model.md"
SIMCLR = ("train.py", "experiment=digits_simclr", "logger=none")
GAN = ("train.py", "experiment=digits_gan", "logger=none", "test=false")
PREDICTION = "which predicts no target: give the checkpoint of a classifier or a regressor."


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

    def saved(self, name: str) -> dict[str, Any]:
        """The last checkpoint, read without running what is in it."""
        path = self.folder / name / "checkpoints" / "last.ckpt"
        content: dict[str, Any] = torch.load(path, weights_only=True)
        return content


@pytest.fixture(scope="module")
def blocks() -> list[Block]:
    return read_blocks(PAGE)


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
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
        "gan whole": (*GAN, *alike),
        "gan part": (*GAN, *alike, "trainer.max_epochs=1"),
        "gan on": (*GAN, *alike, f"ckpt_path={folder / 'gan part' / last}"),
        "simclr test": ("evaluate.py", f"ckpt_path={folder / 'simclr' / best}"),
        "simclr val": ("evaluate.py", f"ckpt_path={folder / 'simclr' / best}", "split=val"),
        "gan val": ("evaluate.py", f"ckpt_path={folder / 'gan whole' / best}", "split=val"),
        "simclr new": ("predict.py", f"ckpt_path={folder / 'simclr' / best}", f"input={folder}"),
        "gan new": ("predict.py", f"ckpt_path={folder / 'gan whole' / best}", f"input={folder}"),
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
    assert len(names) == 5
    for name in names:
        assert examples.answers[name] == "", name
        assert json.loads((examples.folder / name / "run.json").read_text())["status"] == "finished"


def test_code_of_the_page_is_clean(project: BakedProject) -> None:
    """Readers copy it, with its faults."""
    for check in (("check",), ("format", "--check")):
        project.run("ruff", *check, "my_project/models")


@pytest.mark.slow
def test_types_of_the_page_are_right(project: BakedProject) -> None:
    project.run("mypy", ".")


def test_excerpts_of_the_page_are_the_code(project: BakedProject, blocks: list[Block]) -> None:
    """An explanation of code that is no longer there explains nothing."""
    code = project.read("my_project/models/simclr.py")
    excerpts = [b.code for b in blocks if b.language == "python" and b.heading.startswith("2.")]
    assert len(excerpts) == 3
    for excerpt in excerpts:
        assert excerpt in code


def test_notebook_of_the_page_shows_pictures(examples: Examples, blocks: list[Block]) -> None:
    notebook = blocks[-1].code.replace("logs/train/runs/<run>", str(examples.folder / "gan whole"))
    assert notebook != blocks[-1].code
    printed = "\nprint(tuple(pictures.shape), pictures.min() >= 0, pictures.max() <= 1.0001)"
    done = script(examples.project, "-c", notebook + printed)
    assert done.stdout.splitlines()[-1] == "(16, 1, 8, 8) tensor(True) tensor(True)"


# SimCLR


def test_simclr_learns_features_without_labels(examples: Examples) -> None:
    """Random features also tell digits apart, so only the difference shows that it learnt."""
    assert examples.answers["simclr"] == examples.answers["untrained"] == ""
    trained, untrained = (examples.metrics(name) for name in ("simclr", "untrained"))
    for part, metric in (("best", "val/probe_acc"), ("test", "test/probe_acc")):
        assert trained[part][metric] > 0.94
        # Less than half of the mistakes.
        assert 1 - trained[part][metric] < 0.5 * (1 - untrained[part][metric])
    assert trained["test"].keys() == {"test/loss", "test/probe_acc"}
    # Chance is log(2 * 256 - 1), 6.2.
    assert trained["final"]["val/loss"] < 4 < untrained["final"]["val/loss"]


@pytest.mark.parametrize("model", ["simclr", "gan"])
def test_resumed_examples_equal_uninterrupted_ones(examples: Examples, model: str) -> None:
    """Two optimizers, or random views, must not make a killed run end elsewhere."""
    whole, on = examples.saved(f"{model} whole"), examples.saved(f"{model} on")
    assert is_same(whole["state_dict"], on["state_dict"])
    assert is_same(whole["optimizer_states"], on["optimizer_states"])
    assert len(on["optimizer_states"]) == {"simclr": 1, "gan": 2}[model]
    assert not is_same(whole["state_dict"], examples.saved(f"{model} part")["state_dict"])
    assert examples.metrics(f"{model} whole")["final"] == examples.metrics(f"{model} on")["final"]


def test_evaluation_of_examples_repeats_their_metrics(examples: Examples) -> None:
    """Random views, or another probe, would give another number each time."""
    test, val = examples.metrics("simclr test")["test"], examples.metrics("simclr val")["val"]
    trained = examples.metrics("simclr")
    assert test == pytest.approx(trained["test"], abs=1e-5)
    assert val == pytest.approx({name: trained["best"][name] for name in val}, abs=1e-5)
    assert val.keys() == {"val/loss", "val/probe_acc"}
    pictures = {path.name for path in (examples.folder / "simclr test").glob("*/*")}
    assert pictures == {"pca.png"}
    distance = examples.metrics("gan whole")["best"]["val/distance"]
    assert examples.metrics("gan val")["val"]["val/distance"] == pytest.approx(distance, abs=1e-5)
    assert not list((examples.folder / "gan val").glob("*/*.png"))


def test_predictions_of_examples_are_refused(examples: Examples) -> None:
    for name, model in (("simclr new", "SimCLR"), ("gan new", "GAN")):
        assert examples.answers[name].endswith(f"best.ckpt holds a {model}, {PREDICTION}")
