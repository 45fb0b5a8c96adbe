"""The presets for the moments in which something is wrong."""

from concurrent.futures import Future, ThreadPoolExecutor
from subprocess import CompletedProcess

import pytest

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun, script

COMMANDS = {
    "fast": ("debug=fast",),
    "overfit": ("debug=overfit",),
    "overfit a regression": ("debug=overfit", "experiment=diabetes"),
    "limit": ("debug=limit",),
    "profile": ("debug=profile",),
    "anomaly": ("debug=anomaly", "trainer.max_epochs=1"),
    "anomaly found": ("debug=anomaly", "optimizer.lr=1e30", "scheduler=constant"),
}
Runs = dict[str, "Future[TrainedRun]"]


@pytest.fixture(scope="module")
def runs(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    folder = tmp_path_factory.mktemp("debug")

    def start(name: str, options: tuple[str, ...]) -> TrainedRun:
        place = folder / name.replace(" ", "_")
        done = script(demo, "train.py", *options, f"hydra.run.dir={place}", check=False)
        return TrainedRun(place, done)

    return {name: side_by_side.submit(start, name, options) for name, options in COMMANDS.items()}


def finished(runs: Runs, name: str) -> TrainedRun:
    """A run that ended well and said nothing on stderr."""
    run = runs[name].result()
    assert_ended(run.printed, 0)
    assert run.printed.stderr == ""
    assert run.manifest["status"] == "finished"
    return run


def assert_ended(done: CompletedProcess[str], code: int) -> None:
    """The exit code, with the output where it is another."""
    assert done.returncode == code, done.stdout + done.stderr


def test_fast_runs_every_stage_once(runs: Runs) -> None:
    """One batch of everything, in seconds: does every line run at all?"""
    run = finished(runs, "fast")
    assert "epoch 1/1" in run.log
    assert {"train/loss", "val/loss"} <= run.metrics["final"].keys()
    assert {"test/loss", "test/acc"} <= run.metrics["test"].keys()
    assert run.metrics["final"]["step"] == 1


@pytest.mark.parametrize(
    # The regression starts at 1 and keeps its dropout.
    ("name", "most"),
    [("overfit", 0.05), ("overfit a regression", 0.15)],
)
def test_overfit_brings_one_batch_to_nothing(runs: Runs, name: str, most: float) -> None:
    """A model that cannot learn one batch by heart is wired wrongly."""
    run = finished(runs, name)
    assert run.metrics["final"]["train/loss"] < most
    assert run.metrics["final"]["step"] == 100
    assert "test" not in run.metrics


def test_limit_makes_three_short_epochs(runs: Runs) -> None:
    """Nine steps, and yet a checkpoint, a curve and a test."""
    run = finished(runs, "limit")
    assert run.metrics["final"]["step"] == 9
    assert run.metrics["final"]["epoch"] == 2
    assert run.checkpoint("best").is_file()
    assert (run.folder / "figures" / "loss.png").is_file()
    assert run.metrics["test"]


def test_profile_tells_where_the_time_goes(runs: Runs) -> None:
    """A table with the training step, the loader and every callback."""
    run = finished(runs, "profile")
    text = (run.folder / "profile" / "fit-simple.txt").read_text()
    for words in ("run_training_batch", "optimizer_step", "NaNGuard", "train_dataloader_next"):
        assert words in text


def test_anomaly_preset_trains_as_usual(runs: Runs) -> None:
    """It watches every operation and changes none."""
    run = finished(runs, "anomaly")
    assert run.manifest["config"]["trainer"]["detect_anomaly"] is True
    assert 0 < run.metrics["final"]["train/loss"] < 3


def test_anomaly_preset_names_the_operation(runs: Runs) -> None:
    """Here a traceback is wanted: of the line that made the NaN, not of the step that met it."""
    run = runs["anomaly found"].result()
    assert_ended(run.printed, 1)
    assert run.manifest["status"] == "failed"
    assert "returned nan values" in run.printed.stderr
    assert "F.cross_entropy(outputs, y" in run.log
