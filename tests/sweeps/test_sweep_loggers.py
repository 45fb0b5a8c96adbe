"""The trials of a sweep in TensorBoard, W&B and MLflow: found together, each a run of its own."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.sweeps import LR, Swept, sweep
from ..support.tensorboard_server import rows, serve, wait_for

BEST = "hp/best_val_acc"
TRIALS = 4

CRASH = '''
"""Kills the second trial once, in its second epoch."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback


class Once(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if Path(trainer.default_root_dir).name == "0001" and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
'''


def logged(project: BakedProject, folder: Path, logger: str, *options: str) -> Swept:
    """Four short trials with a logger, one of them killed and tried again."""
    (project.root / "crash_once.py").write_text(CRASH)
    return sweep(
        project,
        folder,
        f"logger={logger}",
        f"paths.log_dir={folder.parent}",
        "trainer.max_epochs=2",
        "hydra/sweeper/pruner=none",
        "+callbacks.once._target_=crash_once.Once",
        LR,
        *options,
    )


def best_by_number(swept: Swept) -> dict[int, float]:
    """The best validation accuracy of each trial that counts."""
    return {int(row["number"]): float(row["val/acc"]) for row in swept.rows}


def test_tensorboard_has_a_row_for_every_trial(demo: BakedProject, tmp_path: Path) -> None:
    """Which trial was the best, and with which options, in the viewer that one knows."""
    swept = logged(demo, tmp_path / "rows", "tensorboard", f"hydra.sweeper.n_trials={TRIALS}")
    best = best_by_number(swept)
    assert len(best) == TRIALS
    with serve(swept.folder) as ask:

        def table() -> dict[str, Any]:
            found = {row["sessions"][0]["name"]: row for row in rows(ask, BEST, "ORDER_DESC")}
            # The server reads while it answers; each trial has two batches in two epochs.
            done = [
                name
                for name, row in found.items()
                if any(value["trainingStep"] == 4 for value in row.get("metricValues", []))
            ]
            return found if len(done) >= TRIALS else {}

        found = wait_for(table)
    shown = {
        int(name.split("/")[1]): row["metricValues"][0]["value"]
        for name, row in found.items()
        if row["metricValues"]
    }
    assert {number: shown[number] for number in best} == pytest.approx(best)
    lrs = {int(row["number"]): float(row["optimizer.lr"]) for row in swept.rows}
    for name, row in found.items():
        number = int(name.split("/")[1])
        if number in lrs:
            assert row["hparams"]["optimizer/lr"] == pytest.approx(lrs[number])


def wandb_records(folder: Path) -> list[Any]:
    """What a trial wrote for W&B, as `wandb sync` reads it."""
    from wandb.proto import wandb_internal_pb2

    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return [wandb_internal_pb2.Record.FromString(data) for data in chunks(file.read_bytes())]


def chunks(content: bytes) -> Iterator[bytes]:
    """The records of a file in LevelDB's log format: pieces with checksum, length and kind."""
    block, header, whole_or_last = 32768, 7, (1, 4)
    place, record = header, b""
    while place + header <= len(content):
        if block - place % block < header:
            place += block - place % block
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        record += content[place + header : place + header + length]
        place += header + length
        if kind in whole_or_last:
            yield record
            record = b""


def the(kind: str, records: list[Any]) -> Any:
    """The last record of a kind."""
    return [getattr(r, kind) for r in records if r.WhichOneof("record_type") == kind][-1]


def test_wandb_has_the_trials_in_one_group(demo: BakedProject, tmp_path: Path) -> None:
    """A hundred runs without a group bury all others; unfinished ones count as crashed."""
    pytest.importorskip("wandb")
    swept = logged(demo, tmp_path / "grouped", "wandb", f"hydra.sweeper.n_trials={TRIALS}")
    best = best_by_number(swept)
    assert len(best) == TRIALS
    for number, value in best.items():
        records = wandb_records(swept.folder / f"trials/{number:04d}")
        run = the("run", records)
        assert run.run_group == "grouped"
        assert run.display_name == f"{number:04d}"
        assert the("exit", records).exit_code == 0
        values = [
            json.loads(item.value_json)
            for record in records
            for item in record.history.item
            if BEST in (item.key, *item.nested_key)
        ]
        assert values[-1] == pytest.approx(value)


def test_wandb_has_a_run_for_every_seed(demo: BakedProject, tmp_path: Path) -> None:
    """The seeds of a point are trained in one process, and would end up in one run."""
    pytest.importorskip("wandb")
    options = ("hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=2", "logger.wandb.project=other")
    swept = logged(demo, tmp_path / "seeds", "wandb", *options)
    for number in (0, 1):
        for seed in (0, 1):
            records = wandb_records(swept.folder / f"trials/{number:04d}/seed_{seed}")
            run = the("run", records)
            assert (run.run_group, run.project) == ("seeds", "other")
            assert run.display_name == f"{number:04d}/seed_{seed}"
            assert the("exit", records).exit_code == 0


def test_mlflow_has_the_trials_below_the_sweep(demo: BakedProject, tmp_path: Path) -> None:
    """A sweep is one line of the table that unfolds, also when it was continued or a trial died."""
    mlflow = pytest.importorskip("mlflow")
    folder = tmp_path / "nested"
    logged(demo, folder, "mlflow", "hydra.sweeper.n_trials=2")
    swept = logged(demo, folder, "mlflow", f"hydra.sweeper.n_trials={TRIALS}")
    assert "could not record the end" not in swept.printed
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "demo")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("nested")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert parent.info.status == "FINISHED"
    best = best_by_number(swept)
    assert len(best) == TRIALS
    assert parent.data.metrics["best/val/acc"] == max(best.values())
    assert best[int(parent.data.tags["best_trial"])] == max(best.values())
    for number, value in best.items():
        run = runs.pop(f"{number:04d}")
        assert run.info.status == "FINISHED"
        assert run.data.metrics[BEST] == pytest.approx(value, abs=1e-6)
    # The first try of the trial that was killed.
    assert {name: run.info.status for name, run in runs.items()} == {"0001": "KILLED"}


def test_mlflow_has_a_run_for_every_seed(demo: BakedProject, tmp_path: Path) -> None:
    """The mean of a point hides a seed that diverged; its own curve shows it."""
    mlflow = pytest.importorskip("mlflow")
    logged(demo, tmp_path / "seeds", "mlflow", "hydra.sweeper.n_trials=1", "hydra.sweeper.seeds=2")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "demo")
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_name for run in runs} == {"seeds", "0000/seed_0", "0000/seed_1"}
