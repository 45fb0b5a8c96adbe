"""Statistics of activations, and that observing a training changes nothing."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.training_runs import is_same, train
from .conftest import Package, Train, checkpoint, columns


def test_dead_units_are_counted(package: Package, toy: Callable[..., Any], tmp_path: Path) -> None:
    """A layer that puts out nothing but zeros is dead, a half-dead one half."""

    def run(dead_units: int) -> tuple[dict[str, float], Any]:
        def kill(model: Any) -> None:
            model.first.bias.data[:] = 10
            model.first.bias.data[:dead_units] = -10

        callback = package("callbacks").ActivationStats(str(tmp_path / "activations.png"))
        ended = toy(callback, prepare=kill, lr=0.0)
        (row,) = [row for _, row in ended.rows if "activations_dead/relu" in row]
        return row, ended

    assert run(8)[0]["activations_dead/relu"] == 1
    assert run(8)[0]["activations_dead/first"] == 0
    assert run(4)[0]["activations_dead/relu"] == 0.5
    alive, ended = run(0)
    assert alive["activations_dead/relu"] == 0
    (x,) = next(iter(ended.trainer.val_dataloaders))
    expected = ended.model.relu(ended.model.first(x)).detach()
    assert alive["activations_mean/relu"] == pytest.approx(float(expected.mean()), rel=1e-5)
    std = float(expected.std(correction=0))
    assert alive["activations_std/relu"] == pytest.approx(std, rel=1e-5)


def test_drift_is_an_angle(package: Package, toy: Callable[..., Any], tmp_path: Path) -> None:
    """Outputs that only change sign have turned by 180 degrees since the epoch before."""
    from pytorch_lightning import Callback

    class Flip(Callback):
        """Turns the last layer around before every validation."""

        def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
            if not trainer.sanity_checking:
                pl_module.last.weight.data.neg_()
                pl_module.last.bias.data.neg_()

    callback = package("callbacks").ActivationStats(str(tmp_path / "activations.png"))
    rows = [row for _, row in toy(Flip(), callback, lr=0.0, max_epochs=3).rows]
    first = [row["activations_drift_first/last"] for row in rows]
    previous = [row["activations_drift_previous/last"] for row in rows]
    assert first == pytest.approx([0, 2, 0], abs=1e-6)
    assert previous == pytest.approx([0, 2, 2], abs=1e-6)
    assert [row["activations_drift_first/first"] for row in rows] == [0, 0, 0]


def test_activations_go_on_over_a_resume(train_here: Train) -> None:
    """The plot of a resumed run starts with its first epoch, and so does the drift."""
    options = ("callbacks=[default,activations]", "scheduler=constant")
    whole = train_here("whole", *options, "trainer.max_epochs=3")
    part = train_here("part", *options, "trainer.max_epochs=2")
    last = part / "checkpoints" / "last.ckpt"
    resumed = train_here("resumed", *options, "trainer.max_epochs=3", f"ckpt_path={last}")
    states = [checkpoint(folder)["callbacks"]["ActivationStats"] for folder in (whole, resumed)]
    assert len(states[0]["rows"]) == 3
    assert is_same(states[0], states[1])
    assert 0 < columns(resumed)["activations_drift_first/net.head.1"][0] < 1
    assert (resumed / "figures" / "activations.png").stat().st_size > 20_000


def test_watching_changes_nothing(train_here: Train) -> None:
    """A run with all callbacks ends with the weights of a run without them."""
    options = ("trainer.max_epochs=2", "model.net.dropout=0.3", "data.shift=1")
    observers = "gradient_norms timing time_limit device run_texts".split()
    without = train_here("without", *options, *[f"callbacks.{name}=null" for name in observers])
    everything = train_here(
        "everything",
        *options,
        "callbacks=[default,activations,histograms]",
        "logger=[csv,tensorboard]",
        "trainer.max_time='01:00:00:00'",
    )
    for name in ("state_dict", "optimizer_states"):
        assert is_same(checkpoint(without)[name], checkpoint(everything)[name])
    # Nothing but the model's own metrics is in the table of the run.
    rows = [json.loads((f / "run.json").read_text())["metrics"] for f in (without, everything)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_callbacks_work_in_two_processes_and_compiled(demo: BakedProject, tmp_path: Path) -> None:
    """Each process watches its own part, one of them writes; compiled layers are seen as well."""
    options = ("callbacks=[default,activations,histograms]", "trainer.max_epochs=2", "logger=csv")
    two = train(demo, tmp_path / "two", *options, "trainer=ddp_cpu")
    logged = columns(two.folder)
    assert len(logged["time/samples_per_second"]) == 2
    assert len(logged["activations_dead/net.features.0.2"]) == 2
    assert two.printed.stdout.count("samples/s") == 2
    if shutil.which("g++") and sys.platform == "linux":
        compiled = train(demo, tmp_path / "compiled", *options, "compile=true", "model=mlp")
        drift = columns(compiled.folder)["activations_drift_previous/net.layers.1"]
        assert drift[0] == 0 < drift[1]
