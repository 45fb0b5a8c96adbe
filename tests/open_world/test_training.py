"""Ordinary Lightning code trains, is measured and comes back from its checkpoints."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..support.training_runs import is_same
from .cases import CASES
from .world import ADDED, World, plain_predictions, plain_test

TESTED = [name for name, case in CASES.items() if case.tested]
# Tensors (B,) and (B, K), dictionaries, strings, two loaders, and outputs that are not rows.
PREDICTED = ("tutorial", "hydra_style", "plateau", "dictionaries", "two_loaders", "gan", "lists")


def test_nothing_of_the_project_was_replaced(template: Path) -> None:
    """Otherwise these tests would show what works after edits."""
    shipped = template / "{{=cookiecutter.project_slug}}"
    for path in filter(Path.is_file, ADDED.rglob("*")):
        place, *rest = path.relative_to(ADDED).parts
        folder = "{{=cookiecutter.package_name}}" if place != "configs" else place
        assert not shipped.joinpath(folder, *rest).exists(), path


@pytest.mark.parametrize("name", CASES)
def test_trains_and_logs_what_lightning_logs(world: World, name: str) -> None:
    """All standard callbacks take part; names that the module never logged would be ours."""
    run, case = world.whole(name), CASES[name]
    assert run.manifest["status"] == "finished"
    assert set(run.metrics["final"]) - {"epoch", "step"} == set(case.logged)
    assert set(run.metrics.get("test", {})) == set(case.tested)
    saved = {path.name for path in (run.folder / "checkpoints").iterdir()}
    assert saved == ({"best.ckpt", "last.ckpt"} if case.objective else {"last.ckpt"})
    if case.objective:
        history = run.saved("last")["callbacks"]["MetricHistory"]
        values = [row[case.objective] for row in history["rows"] + history["within"]]
        choose = {"min": min, "max": max}[case.mode]
        assert run.metrics["best"][case.objective] == choose(values)


@pytest.mark.parametrize("name", [name for name in TESTED if CASES[name].is_plain])
def test_test_metrics_are_those_of_plain_lightning(world: World, name: str) -> None:
    """A trainer without this project measures the same with the best weights."""
    run = world.whole(name)
    measured = plain_test(world, name, run.folder / "checkpoints" / "best.ckpt")
    assert run.metrics["test"] == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("name", TESTED)
def test_evaluate_repeats_the_test(world: World, name: str) -> None:
    """`evaluate.py ckpt_path=` is how an owner checks a number in a table."""
    run = world.whole(name)
    again = world.evaluate(run.folder / "checkpoints" / "best.ckpt", "test")
    assert again == run.metrics["test"]


@pytest.mark.parametrize("name", PREDICTED)
def test_predictions_are_what_predict_step_returns(world: World, name: str) -> None:
    """For the datamodule's loader, in its order, whatever the step returns."""
    import torch

    run = world.whole(name)
    checkpoint = run.folder / "checkpoints" / "best.ckpt"
    output = run.folder / "predictions.csv"
    options = (f"ckpt_path={checkpoint}", f"output={output}", "trainer=cpu")
    world.module("prediction").predict(world.configure("predict", run.folder, *options))
    expected = plain_predictions(world, name, checkpoint)
    if name == "lists":
        saved = torch.load(output.with_suffix(".pt"), weights_only=True)
        assert is_same(saved, expected)
        return
    loaders = expected if isinstance(expected[0], list) else [expected]
    rows = [row for batches in loaders for batch in batches for row in rows_of(batch)]
    with output.open(newline="", encoding="utf-8") as file:
        header, *table = csv.reader(file)
    if len(loaders) > 1:
        numbers = [str(i) for i, batches in enumerate(loaders) for b in batches for _ in b]
        place = header.index("dataloader_idx")
        assert [row.pop(place) for row in table] == numbers
    assert [list(map(number, row)) for row in table] == [list(map(number, row)) for row in rows]


def rows_of(batch: Any) -> list[list[Any]]:
    """One list of values for each sample of what a step returned."""
    columns = batch.values() if isinstance(batch, dict) else [batch]
    parts = [
        c.reshape(len(c), -1).tolist() if hasattr(c, "shape") else [[v] for v in c] for c in columns
    ]
    return [[v for part in values for v in part] for values in zip(*parts, strict=True)]


def number(value: Any) -> Any:
    """A cell or an entry as float32, or as text."""
    try:
        return np.float32(value)
    except ValueError:
        return value


@pytest.mark.parametrize("name", [name for name in CASES if name != "built_in_setup"])
def test_run_is_loaded_in_one_call(world: World, name: str) -> None:
    """A notebook gets the model with its weights, and the data."""
    import torch

    run = world.whole(name)
    checkpoint = "best" if CASES[name].objective else "last"
    loaded = world.module("loading").load_run(run.folder, checkpoint)
    weights = run.weights(checkpoint)
    assert loaded.model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weights[key], value) for key, value in loaded.model.state_dict().items())
    assert next(iter(loaded.datamodule.train_dataloader())) is not None


def test_layers_that_need_the_trainer_are_named(world: World) -> None:
    """A notebook has no trainer; what to do instead is part of the sentence."""
    run = world.whole("built_in_setup")
    with pytest.raises(world.module("errors").UserError, match=r"scale\.weight.*setup"):
        world.module("loading").load_run(run.folder)
