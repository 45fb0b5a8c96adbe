"""The finders: the rate as on the CPU, and the batch size with an actual out-of-memory error."""

from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun
from .conftest import Measured
from .device import IS_GPU, train

LR = ("experiment=digits", "finders=lr", "trainer.max_epochs=4", "test=false", "logger=none")
# Of a sample, the two blocks keep about 0.4 MB for the gradients: 1,024 of them do not fit.
LARGE = (
    *("experiment=digits", "finders=batch_size", "model.net.width=256", "trainer.max_epochs=1"),
    *("trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "test=false", "logger=none"),
)
MEGABYTES = 300


def found(run: TrainedRun, option: str) -> Any:
    """The value that a finder chose."""
    return run.manifest["found"][option]


def test_rate_is_that_of_the_cpu(project: BakedProject, tmp_path: Path, measured: Measured) -> None:
    """The curve of the losses is the same but for rounding, so the rate is a neighbour at most."""
    here = found(train(project, tmp_path / "here", *LR), "optimizer.lr")
    cpu = found(train(project, tmp_path / "cpu", *LR, "trainer.accelerator=cpu"), "optimizer.lr")
    # 76 steps over 6 decades: a step is a factor of 1.2.
    assert 0.5 < here / cpu < 2
    measured(f"{here:.3g}, on the CPU {cpu:.3g}")


@pytest.mark.parametrize(
    ("start", "allowed"),
    [
        pytest.param(64, range(64, 1024), marks=pytest.mark.xdist_group("finders up")),
        pytest.param(1024, range(1, 1024), marks=pytest.mark.xdist_group("finders down")),
    ],
)
def test_batch_size_fits_into_memory(
    start: int, allowed: range, project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """The error of an exhausted GPU must be recognised, and its memory released."""
    width = () if IS_GPU else ("model.net.width=8",)
    cap = f"+callbacks.cap={{_target_:gpu_parts.Cap,megabytes:{MEGABYTES}}}"
    run = train(project, tmp_path, *LARGE, *width, cap, f"data.batch_size={start}")
    size = found(run, "data.batch_size")
    assert run.manifest["status"] == "finished"
    assert run.manifest["config"]["data"]["batch_size"] == size
    if IS_GPU:
        assert size in allowed
        assert "does not fit into memory" in run.log
    lines = [line for line in run.log.splitlines() if "into memory" in line]
    sizes = [line.partition("a batch of ")[2].replace(" into memory", "") for line in lines]
    measured(f"{size} with {MEGABYTES} MB: {', '.join(sizes)}")


@pytest.mark.xdist_group("finders down")
def test_size_that_does_not_fit_ends_with_torchs_error(
    project: BakedProject, tmp_path: Path, measured: Measured, needs_gpu: None
) -> None:
    """Without the finder the run fails, and run.json says why."""
    cap = f"+callbacks.cap={{_target_:gpu_parts.Cap,megabytes:{MEGABYTES}}}"
    options = (*LARGE, "finders=none", cap, "data.batch_size=1024")
    run = train(project, tmp_path, *options, check=False)
    assert run.printed.returncode == 1
    assert run.manifest["status"] == "failed"
    assert "out of memory" in run.manifest["error"]
    measured(run.manifest["error"][:120])
