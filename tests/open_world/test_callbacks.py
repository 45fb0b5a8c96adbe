"""Callbacks of an owner see what Lightning's documentation promises; ours take part anywhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from .cases import CASES
from .world import SMALL, World, assert_same, some_fast

OBSERVED = ("callbacks=[default,activations,histograms,swa]", "logger=tensorboard")
AVERAGED = ("callbacks=[default,activations,ema]",)


@pytest.fixture(scope="module")
def seen(world: World) -> tuple[Any, Any]:
    """What a callback saw in a training of ours, and in one of Lightning alone."""
    case = CASES["tutorial"]
    run = world.train(*case.command, "callbacks=[default,reader]", "test=false")
    ours = json.loads((run.folder / "seen.json").read_text("utf-8"))
    return ours, plainly_seen(world)


def plainly_seen(world: World) -> Any:
    from hydra.utils import instantiate
    from pytorch_lightning import Trainer, seed_everything
    from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

    folder = world.folder / "reader"
    cfg = world.configure("train", folder, *SMALL, *CASES["tutorial"].command)
    seed_everything(cfg.seed, verbose=False)
    datamodule, model = instantiate(cfg.data), instantiate(cfg.model)
    best = ModelCheckpoint(folder, "best", monitor="val_acc", mode="max")
    reader = world.module("callbacks.reader").Reader(str(folder / "seen.json"))
    callbacks = [EarlyStopping("val_acc", mode="max", patience=20), best, reader]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(accelerator="cpu", max_epochs=3, callbacks=callbacks, **quiet).fit(model, datamodule)  # type: ignore[arg-type]
    return json.loads((folder / "seen.json").read_text("utf-8"))


@pytest.mark.parametrize("hook", ["validation", "train"])
def test_own_callback_sees_what_it_would_see_elsewhere(seen: tuple[Any, Any], hook: str) -> None:
    """The same metrics, epochs and callbacks in both hooks, the first epoch included."""
    ours, plain = seen
    assert [row.keys() for row in ours[hook]] == [row.keys() for row in plain[hook]]
    assert (
        [row["epoch"] for row in ours[hook]] == [row["epoch"] for row in plain[hook]] == [0, 1, 2]
    )
    assert {row["monitor"] for row in ours[hook]} == {"val_acc"}
    assert {row["patience"] for row in ours[hook]} == {20}
    # In both, the checkpoint of an epoch is written when this epoch's hooks have run.
    assert [bool(row["best"]) for row in ours[hook]] == [bool(row["best"]) for row in plain[hook]]


def test_best_path_of_an_own_callback_is_the_best_checkpoint(seen: tuple[Any, Any]) -> None:
    ours, _ = seen
    (path,) = ours["last"]
    assert Path(path).parts[-2:] == ("checkpoints", "best.ckpt")
    assert Path(path).is_file()


def test_lightnings_names_are_none_without_an_objective(world: World) -> None:
    run = world.train(*CASES["demo"].command, "callbacks=[default,reader]", "trainer.max_epochs=1")
    seen = json.loads((run.folder / "seen.json").read_text("utf-8"))
    assert {row["patience"] for row in seen["train"]} == {None}


@pytest.mark.parametrize("name", some_fast(CASES, ["gan", "dictionaries", "dataclasses"]))
def test_all_observers_take_any_model(world: World, name: str) -> None:
    """Activations of padded transformers are nested tensors, batches may be dictionaries."""
    run = world.train(*CASES[name].command, *OBSERVED)
    assert run.manifest["status"] == "finished"
    assert set(run.metrics["final"]) - {"epoch", "step"} == set(CASES[name].logged)
    if "averaged" in run.manifest["checkpoints"]:
        assert run.weights("swa").keys() == run.weights("last").keys()


@pytest.mark.parametrize(
    "name", some_fast(["gan", "skips_batches", "manual_accumulation"], ["gan"])
)
def test_averaged_weights_resume_exactly(world: World, name: str) -> None:
    """Steps by hand and skipped batches count once, before and after."""
    options = (*CASES[name].command, *AVERAGED)
    whole = world.train(*options)
    assert_same(world.in_pieces(CASES[name].batches, *options), whole)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["fast", "limit", "anomaly", "overfit", "profile"])
@pytest.mark.parametrize("name", ["tutorial", "hydra_style", "gan", "dictionaries", "two_loaders"])
def test_debug_presets_take_any_model(world: World, name: str, preset: str) -> None:
    """They are what an owner tries first."""
    case = CASES[name]
    training = next(metric for metric in case.logged if "loss" in metric or "train" in metric)
    # Quoted, since Hydra reads nan as a number.
    options = (f"debug='{preset}'", "trainer.max_epochs=2")
    objective: tuple[str, ...] = ()
    if preset == "overfit":
        objective = (f"objective.metric={training}", "objective.mode=min")
    run = world.train(*case.command, *options, *objective)
    assert run.manifest["status"] == "finished"
