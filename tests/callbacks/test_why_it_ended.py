"""Why a training ended stands in the log, in run.json and below the final table."""

import csv
import json
import logging
from collections.abc import Iterator
from multiprocessing import Pipe
from typing import Any

import pytest

from ..support.in_process import BATCHES, Project, Run, on_one_thread

COMMON = ("data.shift=0", "trainer.max_epochs=8", "test=false", "trainer.limit_val_batches=2")
# The loss falls, which this objective calls worse: the first value stays the best.
WORSE = ("objective.metric=val/loss", "objective.mode=max", "callbacks.early_stopping.patience=2")

OWN_MODEL = '''
"""A model as Lightning's own documentation writes it."""

from .classifier import Classifier


class OwnModel(Classifier):
    """Logs its loss by itself."""

    def training_step(self, batch, batch_idx):
        """One optimisation step."""
        loss = self.shared_step(batch, "train")
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss
'''


@pytest.fixture(scope="module")
def project(bake: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Ended", package_name="package_of_ended_tests").root
    own = root / "package_of_ended_tests" / "models" / "own_model.py"
    own.write_text(OWN_MODEL, "utf-8")
    with on_one_thread(root, tmp_path_factory.mktemp("ended")) as project:
        yield project
    own.unlink()


def batch_callback(name: str, **arguments: int) -> str:
    words = "".join(f",{key}:{value}" for key, value in arguments.items())
    return f"+callbacks.at_batch={{_target_:tests.support.at_batch.{name}{words}}}"


# The options, and the cause with words of its sentence.
FINISHED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "epochs": (("trainer.max_epochs=1",), "max_epochs", "trainer.max_epochs=1 reached"),
    "steps": (("trainer.max_steps=3",), "max_steps", "trainer.max_steps=3 reached"),
    "patience": (
        WORSE,
        "early_stopping",
        "val/loss has not improved in 2 validations (patience=2)",
    ),
    "threshold": (
        ("+callbacks.early_stopping.stopping_threshold=0.0",),
        "early_stopping",
        "Stopping threshold reached: val/acc",
    ),
    "time": (
        ("callbacks.time_limit.duration='00:00:00:00'",),
        "time_limit",
        "the time limit of 00:00:00:00 is reached",
    ),
    "owner": ((batch_callback("StopTraining"),), "should_stop", "trainer.should_stop"),
    "one batch": (("trainer.fast_dev_run=true",), "fast_dev_run", "fast_dev_run"),
}
FAILED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "not finite": (("optimizer.lr=1e30", "scheduler=constant"), "not_finite", "became NaN"),
    "bug": ((batch_callback("Crash", batch=3),), "exception", "RuntimeError: a crash"),
}


@pytest.mark.parametrize("name", FINISHED)
def test_cause_of_a_finished_training_is_told(
    project: Project,
    name: str,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Who finds 30 of 200 epochs must not have to guess why."""
    options, cause, words = FINISHED[name]
    with caplog.at_level(logging.INFO):
        run = project.train(*COMMON, *options)
    assert (run.manifest["status"], run.manifest["ended_because"]) == ("finished", cause)
    assert words in run.manifest["ended_text"]
    assert any("training ended: " in line and words in line for line in caplog.messages)
    (line,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("training ended"))
    assert words in line


@pytest.mark.parametrize("name", FAILED)
def test_cause_of_a_failed_training_is_told(project: Project, name: str) -> None:
    """A night's list of runs is read by a program, which does not read tracebacks."""
    options, cause, words = FAILED[name]
    with pytest.raises(Exception, match=words.rpartition(": ")[2]):
        project.train(*COMMON, *options)
    path = project.folder / str(project.count) / "run.json"
    manifest = json.loads(path.read_text("utf-8"))
    assert (manifest["status"], manifest["ended_because"]) == ("failed", cause)
    assert words in manifest["ended_text"]


@pytest.mark.parametrize(
    ("answer", "cause"), [("PRUNE", "pruned"), ("STOP", "stopped"), ("PAUSE", "paused")]
)
def test_trial_says_that_the_sweep_ended_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, answer: str, cause: str
) -> None:
    """A pruned trial looks like one that was trained to its end, with fewer epochs."""
    run, reports = train_as_trial(project, monkeypatch, ["CONTINUE", answer])
    assert [step.step for step in reports] == [1, 2]
    assert run.manifest["ended_because"] == cause
    assert "after epoch 2" in run.manifest["ended_text"]


def test_trial_reports_only_what_was_measured(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old value reported as new makes a trial look as if it had stopped to improve."""
    options = ("trainer.check_val_every_n_epoch=2", "trainer.val_check_interval=5")
    run, reports = train_as_trial(
        project, monkeypatch, ["CONTINUE"] * 6, *options, "trainer.max_epochs=4"
    )
    rows = run.saved("last")["callbacks"]["MetricHistory"]["within"]
    # Each second epoch is validated after 5, 10 and 15 of its 16 batches.
    assert [row["step"] for row in rows] == [21, 26, 31, 53, 58, 63]
    # Counted by validation, because an epoch has several.
    found = [(step.step, step.value) for step in reports]
    assert found == [(number, row["val/acc"]) for number, row in enumerate(rows, 1)]


def train_as_trial(
    project: Project, monkeypatch: pytest.MonkeyPatch, answers: list[str], *options: str
) -> tuple[Run, list[Any]]:
    """Train with a sweep at the other end of the line that gives these answers."""
    link, records = project.module("sweeps.trial_channel"), project.module("sweeps.types")
    sweep, trial = Pipe()
    for answer in answers:
        sweep.send(records.Verdict[answer])
    monkeypatch.setattr(link, "current", link.Channel(trial))
    target = "_target_:workbench.sweeps.reporter.TrialReporter,metric:val/acc"
    run = project.train(*COMMON, f"+callbacks.report={{{target}}}", *options)
    reports = []
    while sweep.poll():
        reports.append(sweep.recv())
    return run, reports


def test_patience_counts_validations(project: Project) -> None:
    """Patience 2 ended the training after 2 epochs more, or after half of one, as it happened."""
    every_second = project.train(*COMMON, *WORSE, "trainer.check_val_every_n_epoch=2")
    # Validated after epochs 2, 4 and 6.
    assert every_second.metrics["final"]["epoch"] + 1 == 6
    assert "in epoch 2" in every_second.manifest["ended_text"]
    within = project.train(*COMMON, *WORSE, "trainer.val_check_interval=6")
    # Validated after 6 and 12 of 16 batches, and after 6 of the second epoch.
    assert within.saved("last")["global_step"] == BATCHES + 6
    assert "in epoch 1" in within.manifest["ended_text"]


def test_patience_of_a_training_metric_counts_epochs(project: Project) -> None:
    """With validations within epochs Lightning asked for the training loss before it was there."""
    objective = ("objective.metric=train/loss", "objective.mode=max")
    run = project.train(*COMMON, *WORSE, *objective, "trainer.val_check_interval=5")
    # The loss falls from the first epoch on.
    assert run.metrics["final"]["epoch"] + 1 == 3
    assert "train/loss has not improved in 2 epochs" in run.manifest["ended_text"]


def test_patience_may_change_on_resume(project: Project) -> None:
    """The checkpoint's patience overrode the one that was given."""
    options = (*COMMON, *WORSE[:2], "scheduler=constant")
    first = project.train(*options, "callbacks.early_stopping.patience=1")
    assert first.metrics["final"]["epoch"] + 1 == 2
    last = f"ckpt_path={first.folder}/checkpoints/last.ckpt"
    second = project.train(*options, "callbacks.early_stopping.patience=4", last)
    assert second.metrics["final"]["epoch"] + 1 == 5


def test_epoch_shows_what_was_measured_in_it(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """Every second epoch repeated the validation of the one before it as its own."""
    options = ("trainer.check_val_every_n_epoch=2", "trainer.max_epochs=4")
    with caplog.at_level(logging.INFO):
        run = project.train(*COMMON, *options)
    lines = [line for line in caplog.messages if line.startswith("epoch ")]
    assert ["val/acc" in line for line in lines] == [False, True, False, True]
    assert all("train/acc" in line for line in lines)
    rows = run.saved("last")["callbacks"]["MetricHistory"]["rows"]
    assert ["val/loss" in row for row in rows] == [False, True, False, True]
    assert len({row["val/loss"] for row in rows if "val/loss" in row}) == 2


def test_step_loss_stands_once_at_each_step(project: Project) -> None:
    """Two curves under one name zigzag between each other."""
    own = f"model._target_={project.package}.models.own_model.OwnModel"
    run = project.train(
        *COMMON, "trainer.max_epochs=2", "logger=csv", "trainer.log_every_n_steps=5", own
    )
    with (run.folder / "csv" / "metrics.csv").open(encoding="utf-8") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row["train/loss_step"]]
    # Lightning counts from 0.
    assert steps == [4, 9, 14, 19, 24, 29]
