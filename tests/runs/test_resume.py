"""A run that was killed and goes on must end as the run that was left alone, to the last bit."""

import csv
import signal
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject, start_warm
from ..support.training_runs import ON_CPU, TrainedRun, is_same, train

EPOCHS, BATCHES = 5, 19
# A training takes a few. The checkpoint that a resume goes on from says that all were used.
SECONDS = 1800
# Shift and dropout draw random numbers, whose order a resume could change.
COMMON = (
    f"trainer.max_epochs={EPOCHS}",
    "data.shift=1",
    "model.net.dropout=0.2",
    "optimizer.lr=0.005",
    "logger=[csv,tensorboard]",
    "trainer.log_every_n_steps=1",
    f"trainer.max_time='00:00:{SECONDS // 60}:00'",
)
SCHEDULERS = {
    "cosine": ("scheduler=cosine",),
    "one_cycle": ("scheduler=one_cycle", "objective.metric=val/loss", "objective.mode=min"),
    # A falling loss is to rise: the rate is lowered after every epoch but the first, and the best
    # epoch is the first, long before the resume.
    "plateau": (
        "scheduler=plateau",
        "scheduler.patience=0",
        "objective.metric=val/loss",
        "objective.mode=max",
    ),
    "step": ("scheduler=step", "scheduler.every=2"),
}


@dataclass(frozen=True)
class Resumed:
    """The same training done in one go and in two."""

    whole: TrainedRun
    killed_after: int
    elsewhere: TrainedRun
    in_place: TrainedRun


@pytest.fixture(scope="module")
def resumed(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, "Future[Resumed]"]:
    return {
        name: side_by_side.submit(kill_and_resume, demo, tmp_path_factory.mktemp(name), *options)
        for name, options in SCHEDULERS.items()
    }


def kill_and_resume(demo: BakedProject, folder: Path, *options: str) -> Resumed:
    """Train in one go; then train, kill, and go on in another folder and in the same one."""
    whole = train(demo, folder / "whole", *COMMON, *options)
    killed = folder / "killed"
    train_and_kill(demo, killed, *COMMON, *options)
    last = killed / "checkpoints" / "last.ckpt"
    killed_after = spend_time(last)["epoch"] + 1
    elsewhere = train(demo, folder / "elsewhere", *COMMON, *options, f"ckpt_path={last}")
    in_place = train(demo, killed, *COMMON, *options, f"ckpt_path={last}")
    return Resumed(whole, killed_after, elsewhere, in_place)


def train_and_kill(demo: BakedProject, folder: Path, *options: str) -> None:
    """Train, and kill the process while it is busy with the third epoch."""
    command = ("train.py", f"hydra.run.dir={folder}", *options)
    process = start_warm(*command, cwd=demo.root, **ON_CPU)
    process.read_until(f"epoch 2/{EPOCHS}")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def spend_time(checkpoint: Path) -> dict[str, Any]:
    """Let a checkpoint say that its run has used the whole time that it was granted."""
    import torch

    content: dict[str, Any] = torch.load(checkpoint, weights_only=True)
    spent = content["callbacks"]["TimeLimit"]["time_elapsed"]
    assert 0 < spent["train"] < SECONDS
    spent["train"] = float(SECONDS)
    torch.save(content, checkpoint)
    return content


@pytest.fixture(params=SCHEDULERS)
def runs(request: pytest.FixtureRequest, resumed: dict[str, "Future[Resumed]"]) -> Resumed:
    return resumed[request.param].result()


def rates(run: TrainedRun) -> list[float]:
    """The learning rates in the last checkpoint."""
    groups: list[dict[str, Any]] = run.saved("last")["optimizer_states"][0]["param_groups"]
    return [group["lr"] for group in groups]


@pytest.mark.parametrize("place", ["elsewhere", "in_place"])
def test_resumed_equals_uninterrupted(runs: Resumed, place: str) -> None:
    """Otherwise a number in a table depends on when the cluster stopped the job."""
    run: TrainedRun = getattr(runs, place)
    assert 1 <= runs.killed_after < EPOCHS
    for name in ("best", "last"):
        one, other = run.saved(name), runs.whole.saved(name)
        for part in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            assert is_same(one[part], other[part]), (name, part)
    assert run.metrics == runs.whole.metrics
    assert run.manifest["status"] == "finished"


@pytest.mark.parametrize("place", ["elsewhere", "in_place"])
def test_history_has_every_epoch_once(runs: Resumed, place: str) -> None:
    """The loss curve of a resumed run shows the whole training."""
    saved = getattr(runs, place).saved("last")["callbacks"], runs.whole.saved("last")["callbacks"]
    rows, expected = (callbacks["MetricHistory"]["rows"] for callbacks in saved)
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    assert rows == expected


def test_killed_run_ends_as_if_nothing_had_happened(runs: Resumed) -> None:
    """Kill -9 costs the started epoch, and neither a point of a curve nor the time of the next job.

    The killed run's checkpoint says that its time was over: a resume that adds up the time of all
    jobs would train nothing.
    """
    whole, resumed = runs.whole, runs.in_place
    assert resumed.saved("last")["epoch"] == EPOCHS - 1
    assert is_same(resumed.saved("last")["state_dict"], whole.saved("last")["state_dict"])
    assert resumed.metrics == whole.metrics
    steps = list(range(1, EPOCHS * BATCHES + 1))
    for curves in (csv_curves, tensorboard_curves):
        expected, continued = curves(whole), curves(resumed)
        assert [step for step, _ in continued["train/loss_step"]] == steps
        for name in ("train/loss_step", "train/loss", "val/loss", "val/acc", "lr", "grad/norm"):
            assert continued[name] == expected[name], name
        assert len(continued["val/acc"]) == EPOCHS
    picture = Path("figures", "loss.png")
    assert (resumed.folder / picture).read_bytes() == (whole.folder / picture).read_bytes()


def csv_curves(run: TrainedRun) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each column of metrics.csv."""
    curves: dict[str, list[tuple[int, float]]] = {}
    with (run.folder / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name in filter(row.get, row):
                curves.setdefault(name, []).append((int(row["step"]), float(row[name])))
    return curves


def tensorboard_curves(run: TrainedRun) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each curve in TensorBoard."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.folder / "tensorboard"), {"scalars": 0}).Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def test_run_elsewhere_needs_nothing_of_the_first(runs: Resumed) -> None:
    """The first folder may be deleted: the best checkpoint came along."""
    folder = runs.elsewhere.folder
    places = runs.elsewhere.manifest["checkpoints"].values()
    assert {Path(place).parent for place in places} == {folder / "checkpoints"}


def test_in_place_keeps_one_log(runs: Resumed) -> None:
    """A resume continues the log; it does not begin a second one or wipe the first."""
    log = runs.in_place.log
    assert log.count(f"epoch 1/{EPOCHS}") == log.count(f"epoch {EPOCHS}/{EPOCHS}") == 1


def test_plateau_has_lowered_the_rate(resumed: dict[str, "Future[Resumed]"]) -> None:
    """A resume that loses a step of the schedule only shows where the rate changes."""
    runs = resumed["plateau"].result()
    # The last checkpoint is written before the last step.
    assert rates(runs.whole) == pytest.approx([0.005 * 0.5 ** (EPOCHS - 2)])
    assert runs.whole.saved("best")["epoch"] == 0


def test_step_has_lowered_the_rate(resumed: dict[str, "Future[Resumed]"]) -> None:
    """Two drops by a factor of ten in five epochs."""
    assert rates(resumed["step"].result().whole) == pytest.approx([0.005 * 0.1**2])
