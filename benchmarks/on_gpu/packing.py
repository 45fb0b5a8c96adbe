"""Small trials that share a GPU: trials an hour, and what a trial costs outside of training."""

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..common import Project, print_table, time_command
from .peak import wait
from .size import Budget, Size, in_a_fork

GOAL = 4.0


@dataclass(frozen=True)
class Sweep:
    """What was measured of a sweep.

    Attributes:
        at_once: trials.
        trials: their number.
        command: seconds of the whole command.
        span: seconds from the start of the first trial to the end of the last one.
        each: seconds of a trial, the median: in all, in its fit, and for its set-up.
    """

    at_once: int
    trials: int
    command: float
    span: float
    each: tuple[float, float, float]

    @property
    def an_hour(self) -> float:
        """Trials, without the start of the command."""
        return self.trials * 3600 / self.span

    @property
    def of_slot(self) -> float:
        """Seconds from a trial to the next in the same slot, with those of its process."""
        return self.span * self.at_once / self.trials


def print_packing(project: Project, size: Size, budget: Budget, seconds: float) -> None:
    """Trials an hour when more and more of them share the device."""
    print_context(size)
    end = time.monotonic() + min(seconds, budget.left)
    found: list[Sweep] = []
    for at_once in order(size.packed):
        if found and time.monotonic() + found[-1].command > end:
            print(f"{at_once} at once: left out, the time is used up.", flush=True)
            continue
        found.append(sweep(project, size, at_once))
        # Now, because a later one may take too long.
        print(f"{at_once} at once: {found[-1].an_hour:.0f} trials an hour", flush=True)
    print_sweeps(size, found)


def print_sweeps(size: Size, found: Sequence[Sweep]) -> None:
    """All that was measured of sweeps, of which the first has one trial at a time."""
    one_by_one = found[0].an_hour
    rows = [
        [
            *(f"{one.at_once}", f"{one.trials}", f"{one.command:.1f}", f"{one.an_hour:.0f}"),
            f"{one.an_hour / one_by_one:.2f}",
            *(f"{value:.2f}" for value in (one.of_slot, *one.each)),
        ]
        for one in sorted(found, key=lambda one: one.at_once)
    ]
    header = [
        *("trials at once", "trials", "command, s", "trials an hour", "to one at a time"),
        *("a slot, s", "its trial, s", "its fit, s", "its set-up, s"),
    ]
    title = (
        f"Trials of digits, {size.trial_epochs} epochs each, on one device ({size.device}), once"
    )
    print_table(f"{title}; an hour without the start of the command", header, rows)
    if len(found) > 1:
        best = max(one.an_hour for one in found) / one_by_one
        met = "met" if best >= GOAL else "NOT met"
        print(f"\nGoal, at least {GOAL:g} times: {best:.2f} ({met}).", flush=True)


def order(packed: tuple[int, ...]) -> list[int]:
    """One at a time and the most first: between them lies the rest."""
    return [packed[0], *reversed(packed[1:])]


def print_context(size: Size) -> None:
    """What every process that uses the device pays before its first result."""
    seconds = [in_a_fork(partial(first_result, size)) for _ in range(1 if size.is_tiny else 3)]
    print(
        f"\nFrom the fork to the first result on the device: {statistics.median(seconds):.2f} s",
        flush=True,
    )


def first_result(size: Size) -> float:
    """Seconds until a process has created its context and multiplied two numbers."""
    start = time.perf_counter()
    import torch

    (torch.ones((), device=size.device) * 2).item()
    wait(size)
    return time.perf_counter() - start


def sweep(project: Project, size: Size, at_once: int) -> Sweep:
    """Run a sweep with this number of concurrent trials."""
    if size.device == "cuda":
        share = ["trainer=gpu", "hydra.sweeper.gpus=[0]"]
        share.append(f"hydra.sweeper.gpus_per_trial={1 / at_once:g}")
    else:
        share = ["trainer=cpu", f"hydra.sweeper.workers={at_once}"]
    trials = at_once * size.waves if at_once > 1 else max(size.waves, 2)
    with tempfile.TemporaryDirectory() as folder:
        command = (
            *(sys.executable, "train.py", "-m", f"hydra.sweep.dir={folder}"),
            *("hydra.sweeper.study_name=study", "hydra/sweeper/pruner=none"),
            *(f"trainer.max_epochs={size.trial_epochs}", f"hydra.sweeper.n_trials={trials}"),
            # All trials are equally large.
            *("search_space=none", "optimizer.lr=tag(log,interval(1e-4,1e-2))"),
            *("hydra.sweeper.test=winner", "callbacks.early_stopping=null", *share),
        )
        variables = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        took = time_command(command, Path(project.root), variables)
        study = Path(folder) / "study"
        return Sweep(at_once, trials, took.wall, span_of(study), each_of(study))


def span_of(study: Path) -> float:
    """Seconds from the start of the first trial to the end of the last one."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(study / "journal.log")))
    (name,) = optuna.get_all_study_names(storage)
    trials = optuna.load_study(study_name=name, storage=storage).trials
    starts = [trial.datetime_start for trial in trials if trial.datetime_start]
    ends = [trial.datetime_complete for trial in trials if trial.datetime_complete]
    return (max(ends) - min(starts)).total_seconds()


def each_of(study: Path) -> tuple[float, float, float]:
    """Median seconds of a trial, of its fit and of its set-up, as its `run.json` has them."""
    records: list[dict[str, Any]] = [
        json.loads(path.read_text("utf-8"))["timings"] for path in study.glob("trials/*/run.json")
    ]
    stages = ("total", "fit", "setup")
    total, fit, setup = (statistics.median(one[stage] for one in records) for stage in stages)
    return total, fit, setup
