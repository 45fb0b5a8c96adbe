"""What a trial reports while it trains, whatever the length of its training and of its epochs."""

import importlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Bake
from ..support.in_process import Project, Run, on_one_thread
from ..support.sweep_modules import MODULE, PLAIN, bake_with_modules

# More answers than any of these trials waits for.
ENOUGH = 50
OWN = (
    *PLAIN,
    "test=false",
    "trainer.num_sanity_val_steps=0",
    f"+callbacks.witness._target_={MODULE}.Witness",
)
EVERY_5_BATCHES = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=5")
STEPS = ("trainer.max_epochs=-1", "trainer.max_steps=20")
EPOCHS = ("trainer.max_epochs=2",)


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake_with_modules(bake).root
    with on_one_thread(root, tmp_path_factory.mktemp("reports")) as found:
        yield found


@dataclass(frozen=True)
class Trial:
    """What a trial sent, and its run.

    Attributes:
        reports: number, value, and whether it was the last.
        repeats: for each report, the last one that repeats an earlier attempt; 0 if none does.
        seen: the steps before every validation, and its loss, as Lightning says.
    """

    reports: list[tuple[int, float, bool]]
    repeats: list[int]
    seen: list[tuple[int, float]]
    run: Run


@pytest.fixture
def trial(project: Project, tmp_path: Path) -> Callable[..., Trial]:
    """Trains as a trial does, on the line to a sweep that gives these answers."""
    link, answer = project.module("sweeps.trial_channel"), project.module("sweeps.types").Verdict
    folders = itertools.count()

    def train(*options: str, answers: Sequence[str] = (), metric: str = "val_loss") -> Trial:
        here, there = Pipe()
        folder = tmp_path / str(next(folders))
        target = "workbench.sweeps.reporter.TrialReporter"
        reporter = f"+callbacks.report={{_target_:{target},metric:{metric}}}"
        objective = f"objective.metric={metric}"
        cfg = project.configure("train", folder, *OWN, objective, *options, reporter)
        for name in [*answers, *["CONTINUE"] * (ENOUGH - len(answers))]:
            here.send(answer[name])
        link.current = link.Channel(there)
        try:
            project.module("training").train(cfg)
        finally:
            link.current = None
        reports, repeats = [], []
        while here.poll():
            *report, last = here.recv()
            reports.append(tuple(report))
            repeats.append(last)
        seen = list(importlib.import_module(MODULE).SEEN)
        run = Run(folder, json.loads((folder / "run.json").read_text()))
        return Trial(reports, repeats, seen, run)

    return train


LENGTHS = {
    # Number and value of each report, the value by the index of Lightning's validation.
    "epochs": (EPOCHS, [(1, 0), (2, 1)]),
    "every other epoch": (
        ("trainer.max_epochs=4", "trainer.check_val_every_n_epoch=2"),
        [(2, 0), (4, 1)],
    ),
    "steps, validated by epoch": (
        ("trainer.max_epochs=-1", "trainer.max_steps=16"),
        [(1, 0), (2, 1)],
    ),
    "no limit of epochs": (("trainer.max_epochs=null", "trainer.max_steps=16"), [(1, 0), (2, 1)]),
    "validated by steps": ((*STEPS, *EVERY_5_BATCHES), [(1, 0), (2, 1), (3, 2), (4, 3)]),
    "several validations an epoch": (
        (*EPOCHS, "trainer.val_check_interval=4"),
        [(1, 0), (2, 1), (3, 2), (4, 3)],
    ),
    # After 3 and 6 of 8 batches: the end of an epoch adds nothing.
    "the last within the epoch": (
        (*EPOCHS, "trainer.val_check_interval=3"),
        [(1, 0), (2, 1), (3, 2), (4, 3)],
    ),
    "endless epoch": (
        ("data=stream", *STEPS, *EVERY_5_BATCHES),
        [(1, 0), (2, 1), (3, 2), (4, 3)],
    ),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_every_validation_is_reported_once(trial: Any, name: str) -> None:
    """A pruner compares trials that have come as far: a value too many makes one look further."""
    options, expected = LENGTHS[name]
    done = trial(*options)
    losses = [loss for _, loss in done.seen]
    assert [report[:2] for report in done.reports] == [(step, losses[i]) for step, i in expected]
    # Only after the last one is nothing left to prune.
    is_whole = name != "the last within the epoch"
    assert [is_last for *_, is_last in done.reports] == [False] * (len(expected) - 1) + [is_whole]


@pytest.mark.parametrize("options", [EPOCHS, ("data=notvalidated", *EPOCHS)])
def test_training_metric_is_reported_by_epoch(trial: Any, options: tuple[str, ...]) -> None:
    """Without a validation there is still something to judge a trial by."""
    done = trial(*options, metric="train_loss")
    assert [step for step, *_ in done.reports] == [1, 2]
    rows = done.run.manifest["metrics"]
    assert done.reports[1][1] == rows["final"]["train_loss"]
    assert min(value for _, value, _ in done.reports) == rows["best"]["train_loss"]


def test_training_metric_is_reported_once_where_epochs_have_validations(trial: Any) -> None:
    """Validations within the epoch do not measure it."""
    done = trial(*EPOCHS, "trainer.val_check_interval=3", metric="train_loss")
    assert [step for step, *_ in done.reports] == [1, 2]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ((*STEPS, *EVERY_5_BATCHES), 10),
        (("data=stream", *STEPS, *EVERY_5_BATCHES), 10),
        (EPOCHS, 8),
    ],
)
def test_pruned_trial_stops_at_its_report(trial: Any, options: Any, steps: int) -> None:
    """Every batch after it is wasted."""
    answers = ["PRUNE"] if steps == 8 else ["CONTINUE", "PRUNE"]
    done = trial(*options, answers=answers)
    assert len(done.reports) == len(answers)
    assert done.run.manifest["ended_because"] == "pruned"
    assert done.run.saved("last")["global_step"] == steps
    assert done.run.metrics["best"]["val_loss"] == min(loss for _, loss in done.seen)


def test_complete_trial_cannot_be_pruned(trial: Any) -> None:
    """It has cost all that it could: its result counts."""
    answers = ["CONTINUE"] * 3 + ["PRUNE"]
    done = trial(*STEPS, *EVERY_5_BATCHES, answers=answers)
    assert len(done.reports) == 4
    assert done.run.manifest["ended_because"] == "max_steps"


@pytest.mark.parametrize(
    ("data", "stopped_at"),
    [
        ("data", 2),
        ("stream", 2),
        *(pytest.param("data", number, marks=pytest.mark.slow) for number in (1, 3)),
        *(pytest.param("stream", number, marks=pytest.mark.slow) for number in (1, 3)),
    ],
)
def test_resumed_trial_ends_as_if_it_had_not_been_stopped(
    trial: Any, data: str, stopped_at: int
) -> None:
    """A sweep that is continued has the results of one that ran through, and the same curves."""
    import torch

    # 1 is after 5 of 8 batches, 2 after 2 of the second epoch.
    options = (f"data={data}", *STEPS, *EVERY_5_BATCHES)
    whole = trial(*options)
    first = trial(*options, answers=[*["CONTINUE"] * (stopped_at - 1), "STOP"])
    assert first.run.manifest["ended_because"] == "stopped"
    assert first.reports == whole.reports[:stopped_at]
    path = first.run.folder / "checkpoints" / "last.ckpt"
    second = trial(*options, f"ckpt_path={path}", answers=["STOP"] * stopped_at)
    # Those before the resume are repeated, and their answers do not count.
    assert second.reports == whole.reports
    # They do not count towards hydra.sweeper.epochs again.
    left = len(whole.reports) - stopped_at
    assert second.repeats == [stopped_at] * stopped_at + [0] * left
    weights = whole.run.weights("last")
    for name, weight in second.run.weights("last").items():
        assert torch.equal(weight, weights[name]), name
