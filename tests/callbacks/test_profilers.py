"""The profilers' reports, and their top costs in the log."""

import gzip
import json
import logging

import pytest

from .conftest import Train


@pytest.mark.parametrize("length", ["three batches", "fast_dev_run"])
@pytest.mark.parametrize("profiler", ["simple", "advanced", "pytorch"])
def test_profilers_work_with_short_runs(
    profiler: str, length: str, train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody profiles a whole training: a few batches must be enough."""
    caplog.set_level(logging.INFO)
    options = {
        "three batches": ("trainer.limit_train_batches=3", "trainer.max_epochs=2"),
        "fast_dev_run": ("trainer.fast_dev_run=true",),
    }[length]
    folder = train_here("profiled", f"profiler={profiler}", "test=true", *options) / "profile"
    training, testing = {
        "simple": ("run_training_batch", "test_step"),
        "advanced": ("training_step", "test_step"),
        "pytorch": ("aten::convolution_backward", "aten::"),
    }[profiler]
    report, of_test = folder / f"fit-{profiler}.txt", folder / f"test-{profiler}.txt"
    assert training in report.read_text("utf-8")
    assert testing in of_test.read_text("utf-8")
    assert training not in of_test.read_text("utf-8")
    (table,) = [r.getMessage() for r in caplog.records if str(report) in r.getMessage()]
    assert 5 <= len(table.splitlines()) <= 12
    costs = [float(line.split()[0]) for line in table.splitlines()[2:]]
    assert costs == sorted(costs, reverse=True)
    if profiler == "pytorch":
        trace = gzip.decompress((folder / "fit-pytorch.trace.json.gz").read_bytes())
        names = {event.get("name") for event in json.loads(trace)["traceEvents"]}
        assert "aten::convolution_backward" in names
