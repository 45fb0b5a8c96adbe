"""An epoch may take days: a run stopped within one must end like an uninterrupted one."""

import json
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.in_process import BATCHES, Project, Run, on_one_thread
from ..support.training_runs import is_same

SIGINT, SIGTERM = int(signal.SIGINT), int(signal.SIGTERM)
# Shift and dropout draw random numbers.
COMMON = ("data.shift=1", "model.net.dropout=0.2", "trainer.max_epochs=3", "test=false")
CASES: dict[str, tuple[str, ...]] = {
    # The rate falls after every epoch: a lost step of the schedule would show.
    "validations within": (
        "trainer.val_check_interval=5",
        "scheduler=plateau",
        "scheduler.patience=0",
        "objective.metric=val/loss",
        "objective.mode=max",
    ),
    # 3 divides neither 16 nor 10: gradients wait where the run stops.
    "accumulated": (
        "trainer.val_check_interval=5",
        "trainer.accumulate_grad_batches=3",
        "callbacks=[default,ema]",
    ),
    # RandAugment, random erasing, MixUp and CutMix.
    "augmented": ("data/augmentation=strong",),
    # The first epoch is not validated, and its end is not that of the schedule.
    "max_steps": ("trainer.max_steps=41", "trainer.check_val_every_n_epoch=2"),
}


OWN_MODEL = '''
"""A model as Lightning's own documentation writes it."""

from .classifier import Classifier


class OwnModel(Classifier):
    """Logs by itself, and keeps the metrics that it inherits."""

    def training_step(self, batch, batch_idx):
        """One optimisation step."""
        loss = self.shared_step(batch, "train")
        self.log("own/mean", loss, on_step=False, on_epoch=True)
        self.log("own/largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return loss
'''


# Within the first epoch, at a validation that is due within the second, and at its end.
INTERRUPTED = {
    "validations within": (7, BATCHES + 10, 2 * BATCHES),
    "accumulated": (BATCHES + 10,),
    "augmented": (BATCHES + 7,),
    "max_steps": (7, 2 * BATCHES),
}


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Within", package_name="package_of_within_tests").root
    own = root / "package_of_within_tests" / "models" / "own_model.py"
    own.write_text(OWN_MODEL, "utf-8")
    with on_one_thread(root, tmp_path_factory.mktemp("within")) as project:
        yield project


@pytest.fixture(scope="module")
def plain(project: Project) -> Run:
    """An uninterrupted training."""
    return project.train(*COMMON)


@pytest.fixture(autouse=True)
def usual_ctrl_c() -> Iterator[None]:
    """Lightning ignores Ctrl-C for good once it has handled one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def stop(project: Project, batch: int, *options: str, number: int = SIGINT, times: int = 1) -> Run:
    """Train until a signal comes in the middle of a batch; the exit code is in `run.json`'s."""
    target = (
        f"_target_:tests.support.at_batch.SendSignal,batch:{batch},number:{number},times:{times}"
    )
    return end_early(project, SystemExit, f"+callbacks.send={{{target}}}", *options)


def crash(project: Project, batch: int, *options: str) -> Run:
    """Train until a bug ends it."""
    target = f"_target_:tests.support.at_batch.Crash,batch:{batch}"
    return end_early(project, RuntimeError, f"+callbacks.crash={{{target}}}", *options)


def end_early(project: Project, error: type[BaseException], *options: str) -> Run:
    with pytest.raises(error) as caught:
        project.train(*options)
    folder = project.folder / str(project.count)
    manifest = json.loads((folder / "run.json").read_text("utf-8"))
    return Run(folder, manifest | {"code": getattr(caught.value, "code", None)})


def assert_same(run: Run, whole: Run) -> None:
    """The same weights, optimizer, schedule, best, history and metrics, to the last bit."""
    for name in ("best", "last"):
        one, other = run.saved(name), whole.saved(name)
        for part in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            assert is_same(one[part], other[part]), (name, part)
        for key, state in other["callbacks"].items():
            if key != "TimeLimit" and "Checkpoint{" not in key:
                # As text: a NaN differs from itself.
                assert str(one["callbacks"][key]) == str(state), (name, key)
    assert run.metrics == whole.metrics


@pytest.mark.parametrize("case", CASES)
def test_interrupted_epoch_is_continued_to_the_last_bit(project: Project, case: str) -> None:
    """Before, Ctrl-C within an epoch lost the epoch, with its validations."""
    options = (*COMMON, *CASES[case])
    whole = project.train(*options)
    for batch in INTERRUPTED[case]:
        part = stop(project, batch, *options)
        assert trained_batches(part) == batch
        assert part.manifest["code"] == 130
        assert (part.manifest["status"], part.manifest["ended_because"]) == ("interrupted",) * 2
        assert_same(project.train(*options, resume(part)), whole)


def resume(run: Run) -> str:
    return f"ckpt_path={run.folder}/checkpoints/last.ckpt"


def trained_batches(run: Run) -> int:
    """The batches that the last checkpoint has seen."""
    progress = run.saved("last")["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    total: int = progress["total"]["processed"]
    return total


def test_metrics_of_an_interrupted_epoch_are_of_the_whole_epoch(project: Project) -> None:
    """The resumed epoch showed the mean over the batches after the resume."""
    own = f"model._target_={project.package}.models.own_model.OwnModel"
    options = (*COMMON, own, "trainer.max_epochs=1")
    whole = project.train(*options)
    part = stop(project, 7, *options)
    resumed = project.train(*options, resume(part))
    assert "own/largest" in whole.metrics["final"]
    assert resumed.metrics == whole.metrics


def test_kill_costs_only_the_batches_since_the_last_validation(project: Project) -> None:
    """Three validations of one long epoch, and then there was no checkpoints folder."""
    options = (*COMMON, "trainer.max_epochs=1", "trainer.val_check_interval=5")
    whole = project.train(*options)
    part = crash(project, BATCHES, *options)
    assert trained_batches(part) == 15
    # The best is that of a validation within the epoch, as its score says.
    (score,) = [
        state["best_model_score"]
        for key, state in part.saved("best")["callbacks"].items()
        if key.startswith("BestCheckpoint")
    ]
    rows = part.saved("last")["callbacks"]["MetricHistory"]["within"]
    assert [row["step"] for row in rows] == [5, 10, 15]
    assert float(score) == max(row["val/acc"] for row in rows)
    assert_same(project.train(*options, resume(part)), whole)


def test_checkpoint_comes_every_few_minutes(project: Project, plain: Run) -> None:
    """Where nothing is validated for hours, a crash would cost hours."""
    often = "callbacks.last_checkpoint.every_n_minutes=0"
    part = crash(project, 9, *COMMON, often)
    assert trained_batches(part) == 8
    assert_same(project.train(*COMMON, resume(part)), plain)


def test_metrics_of_run_are_those_of_its_best_checkpoint(project: Project) -> None:
    """The best validation lies within an epoch, and the table showed that of an epoch's end."""
    run = project.train(*COMMON, "trainer.val_check_interval=3", "optimizer.lr=0.05")
    measured = project.evaluate(run.folder / "checkpoints" / "best.ckpt", "val")
    assert run.metrics["best"]["val/acc"] == pytest.approx(measured["val/acc"], abs=1e-6)


def test_second_ctrl_c_stops_at_once(project: Project) -> None:
    """Who presses twice does not want to wait for a validation of an hour."""
    part = stop(project, 7, *COMMON, times=2)
    assert part.manifest["code"] == 130
    assert (part.manifest["status"], part.manifest["ended_because"]) == ("interrupted",) * 2
    assert not (part.folder / "checkpoints").exists()


def test_sigterm_saves_and_ends(project: Project) -> None:
    """A cluster that takes the machine back says so first."""
    part = stop(project, 7, *COMMON, number=SIGTERM)
    assert part.manifest["code"] == 143
    assert part.manifest["status"] == "interrupted"
    assert part.manifest["ended_because"] == "terminated"
    assert trained_batches(part) == 7


def test_requeue_waits_for_the_end_of_the_batch(
    project: Project, plain: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SLURM's warning came within a batch, and the requeued job left out the rest of its epoch."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    cluster = {"JOB_ID": 7, "JOB_NAME": "x", "NTASKS": 1, "PROCID": 0, "LOCALID": 0, "NODEID": 0}
    for name, value in cluster.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    target = f"_target_:tests.support.at_batch.SendSignal,batch:7,number:{int(signal.SIGUSR1)}"
    warned = project.train(*COMMON, f"+callbacks.send={{{target}}}")
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    for name in cluster:
        monkeypatch.delenv(f"SLURM_{name}")
    left = warned.folder / "hpc_ckpt_1.ckpt"
    assert_same(project.train(*COMMON, f"ckpt_path={left}"), plain)


def test_loader_that_cannot_be_continued_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a DataLoader some samples would be trained twice, without a word."""

    class Batches:
        """An iterable of another kind."""

        def __init__(self, loader: Any) -> None:
            self.loader = loader

        def __len__(self) -> int:
            return len(self.loader)

        def __iter__(self) -> Any:
            return iter(self.loader)

    base = project.module("data.base").BaseDataModule
    plain = base.train_dataloader
    monkeypatch.setattr(base, "train_dataloader", lambda self: Batches(plain(self)))
    part = stop(project, 7, *COMMON)
    with caplog.at_level(logging.WARNING):
        project.train(*COMMON, resume(part))
    (line,) = [line for line in caplog.messages if "drawn again" in line]
    assert "epoch 1, after 7 of 16 batches" in line


def test_epoch_of_other_length_is_not_continued(project: Project) -> None:
    """The place of the checkpoint in it would mean other samples, as with other devices or data."""
    part = stop(project, 7, *COMMON)
    state = part.saved("last")["within_epoch"]
    check = project.module("callbacks.resuming").check_same_batches
    check(state, BATCHES)
    with pytest.raises(project.module("errors").UserError, match=r"16 batches.* has 8"):
        check(state, 8)
