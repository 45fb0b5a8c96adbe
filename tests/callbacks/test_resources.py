"""Time, memory and the time limit are measured, and reported correctly."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from ..support.training_runs import is_same
from .conftest import Package, Train, checkpoint, columns


@pytest.fixture
def clock(package: Package, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Time that passes in training and validation batches alone: 4 and 10 seconds each."""
    from pytorch_lightning import callbacks

    now = SimpleNamespace(seconds=0.0, training=4.0, validation=10.0)

    class Passing(callbacks.Callback):
        """Lets time pass."""

        def on_train_batch_start(self, *_: Any) -> None:
            now.seconds += now.training

        def on_validation_batch_start(self, *_: Any) -> None:
            now.seconds += now.validation

    time = SimpleNamespace(perf_counter=lambda: now.seconds, monotonic=lambda: now.seconds)
    monkeypatch.setattr(package("callbacks.resources"), "time", time)
    monkeypatch.setattr("pytorch_lightning.callbacks.timer.time", time)
    assembly = package("assembly")
    build_all = assembly.build_all

    def with_time(group: Any) -> list[Any]:
        built: list[Any] = build_all(group)
        return [Passing(), *built] if group and "epoch_log" in group else built

    monkeypatch.setattr(assembly, "build_all", with_time)
    return now


def test_epoch_line_tells_speed_and_time_left(
    clock: SimpleNamespace, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Validation must not make training look slow, nor be forgotten in the time left."""
    caplog.set_level(logging.INFO)
    logged = columns(train_here("timed", "trainer.max_epochs=3"))
    # 5 batches of 64 samples in 20 seconds, and a validation batch of 10.
    assert logged["time/samples_per_second"] == [16, 16, 16]
    assert logged["time/epoch_seconds"] == [30, 30, 30]
    lines = [line.getMessage() for line in caplog.records if "samples/s" in line.getMessage()]
    assert "16 samples/s  at most 0:01:00 left" in lines[0]
    assert "16 samples/s  at most 0:00:30 left" in lines[1]
    assert "left" not in lines[2]


def test_time_limit_stops_saves_and_gives_the_next_run_its_whole_time(
    clock: SimpleNamespace, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Three cluster jobs of equal length end with the weights of one long job."""
    caplog.set_level(logging.INFO)
    options = ("trainer.max_epochs=8", "scheduler=cosine")
    whole = train_here("whole", *options)
    assert "WALLTIME" not in caplog.text

    # Epochs take 30 seconds: the fourth would fit into 120 but for the margin.
    limit = (*options, "trainer.max_time='00:00:02:00'")
    first = train_here("first", *limit)
    assert checkpoint(first)["epoch"] == 2
    saved = first / "checkpoints" / "last.ckpt"
    assert f"resume with ckpt_path={saved}" in caplog.text
    # 5 epochs of 30 seconds, a fifth more, and two minutes: 5 minutes.
    assert "the remaining 5 epochs take about 00:02:30: request WALLTIME 00:05:00" in caplog.text

    second = train_here("second", *limit, f"ckpt_path={saved}")
    assert checkpoint(second)["epoch"] == 5
    third = train_here("third", *limit, f"ckpt_path={second / 'checkpoints' / 'last.ckpt'}")
    assert is_same(checkpoint(third)["state_dict"], checkpoint(whole)["state_dict"])
    assert caplog.text.count("stopped by the time limit") == 2


def test_epoch_that_takes_too_long_is_cut_off(
    clock: SimpleNamespace, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """A limit holds even if no epoch fits into it, and the next run continues within the epoch."""
    caplog.set_level(logging.INFO)
    clock.validation = 0.0
    limit = "callbacks.time_limit.duration='00:00:00:12'"
    folder = train_here("cut", "trainer.max_epochs=4", limit)
    assert checkpoint(folder)["global_step"] == 3
    # 2 batches of this epoch and 3 epochs of 5 batches are left, 4 seconds each.
    assert "the remaining 3.4 epochs take about 00:01:08" in caplog.text
    last = f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}"
    resumed = train_here("continued", "trainer.max_epochs=4", last)
    whole = train_here("in one go", "trainer.max_epochs=4")
    assert is_same(checkpoint(resumed)["state_dict"], checkpoint(whole)["state_dict"])


def test_growing_memory_is_told_of_once(package: Package, caplog: pytest.LogCaptureFixture) -> None:
    """A leak is reported before it ends the run; memory that settles is not reported."""
    callback = package("callbacks").DeviceStats(growing_epochs=3, growth_gb=0.1)
    for gigabytes in (1.0, 1.5, 2.0, 2.0, 1.9, 2.1, 2.11, 2.1):
        callback.watch(gigabytes)
    assert caplog.text == ""
    for gigabytes in (2.2, 2.3, 2.4, 2.5, 2.6, 2.7):
        callback.watch(gigabytes)
    (line,) = caplog.records
    assert "the last 3 epochs, by 0.30 GB" in line.getMessage()
    assert "loss.item()" in line.getMessage()


def test_gpu_memory_is_the_highest_of_each_epoch(
    package: Package, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a GPU a batch size is chosen by the peak, and a leak shows there."""
    import torch

    peaks = {"now": 0}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: peaks.update(now=0))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _: peaks["now"])
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda _: 2 * peaks["now"])
    monkeypatch.setattr(torch.cuda, "utilization", lambda _: 87)
    rows: list[dict[str, float]] = []
    logger = SimpleNamespace(log_metrics=lambda metrics, step: rows.append(metrics))
    trainer: Any = SimpleNamespace(is_last_batch=True, loggers=[logger], global_step=1)
    module: Any = SimpleNamespace(device=torch.device("cuda", 0))
    callback = package("callbacks").DeviceStats(growing_epochs=2)
    for gigabytes in (3, 4, 5):
        callback.on_train_epoch_start(trainer, module)
        peaks["now"] += gigabytes * 10**9
        callback.on_train_batch_end(trainer, module, None, None, 0)
        callback.on_epoch_measured(trainer, module)
    assert [row["device/cuda_allocated_gb"] for row in rows] == [3, 4, 5]
    assert [row["device/cuda_reserved_gb"] for row in rows] == [6, 8, 10]
    assert rows[0]["device/cuda_percent"] == 87
    assert "memory grew in each of the last 2 epochs, by 2.00 GB" in caplog.text
