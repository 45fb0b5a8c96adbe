"""Ordinary Lightning code trains, is measured and comes back from its checkpoints."""

from pathlib import Path

import pytest

from .cases import CASES
from .world import ADDED, World, plain_test

TESTED = [name for name, case in CASES.items() if case.tested]


def test_nothing_of_the_project_was_replaced(template: Path) -> None:
    """Otherwise these tests would show what works after edits."""
    shipped = template / "{{=cookiecutter.__folder}}"
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


@pytest.mark.parametrize("name", [name for name in TESTED if CASES[name].has_fixed_tests])
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


@pytest.mark.parametrize("name", CASES)
def test_run_is_loaded_in_one_call(world: World, name: str) -> None:
    """A notebook gets the model with its weights, and the data."""
    import torch

    run = world.whole(name)
    checkpoint = "best" if CASES[name].objective else "last"
    loaded = world.module("runs.loading").load_run(run.folder, checkpoint)
    weights = run.weights(checkpoint)
    assert loaded.model.state_dict().keys() == weights.keys()
    assert all(torch.equal(weights[key], value) for key, value in loaded.model.state_dict().items())
    assert next(iter(loaded.datamodule.train_dataloader())) is not None
