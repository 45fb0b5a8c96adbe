"""With trainer.deterministic=true a resumed training on the GPU is equal to the last bit."""

from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.training_runs import is_same
from .conftest import Measured
from .device import interrupt, train

# 19 batches per epoch. Shift and dropout draw random numbers on the GPU.
COMMON = (
    *("experiment=digits", "trainer.deterministic=true", "trainer.max_epochs=4", "logger=none"),
    *("data.shift=1", "model.net.dropout=0.2", "model.net.width=16"),
)
BATCHES = 19
CASES: dict[str, tuple[int, tuple[str, ...]]] = {
    "at the end of an epoch": (2 * BATCHES, ()),
    "within an epoch": (BATCHES + 7, ()),
    "bf16-mixed": (BATCHES + 7, ("trainer.precision=bf16-mixed",)),
    # The scale of the losses is a state too.
    "16-mixed": (BATCHES + 7, ("trainer.precision=16-mixed",)),
    "bf16-true": (BATCHES + 7, ("trainer.precision=bf16-true",)),
    "mlp, accumulated": (
        BATCHES + 10,
        (
            "model=mlp",
            "~model.net.width",
            "+model.net.width=64",
            "trainer.accumulate_grad_batches=3",
        ),
    ),
    "swa": (
        2 * BATCHES + 7,
        ("callbacks=[default,swa]", "callbacks.swa.start=0.5"),
    ),
    "augmented": (BATCHES + 7, ("data/augmentation=strong",)),
    "ema": (BATCHES + 7, ("callbacks=[default,ema]", "callbacks.ema.decay=0.9")),
}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=pytest.mark.xdist_group(f"resuming {number % 3}"))
        for number, name in enumerate(CASES)
    ],
)
def test_resumed_equals_uninterrupted(
    case: str, project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """Otherwise a number in a table depends on when the cluster stopped the job."""
    batch, options = CASES[case]
    runs = interrupt(project, tmp_path, batch, *COMMON, *options)
    assert not runs.differences()
    if case in ("swa", "ema"):
        one, other = runs.whole.saved(case), runs.resumed.saved(case)
        assert is_same(one["state_dict"], other["state_dict"])
        assert not is_same(one["state_dict"], runs.whole.saved("last")["state_dict"])
        assert {"last", "averaged"} <= runs.whole.metrics.keys()
    measured(f"interrupted after batch {batch} of {4 * BATCHES}; equal to the last bit")


@pytest.mark.xdist_group("resuming 0")
def test_same_command_gives_the_same_run(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """What `deterministic` promises; without it the GPU may add up in any order."""
    options = (*COMMON, "trainer.max_epochs=2")
    one, other = (train(project, tmp_path / name, *options) for name in ("one", "other"))
    assert is_same(one.saved("last")["state_dict"], other.saved("last")["state_dict"])
    assert one.metrics == other.metrics
    measured(f"twice val/loss {one.metrics['final']['val/loss']!r}")
