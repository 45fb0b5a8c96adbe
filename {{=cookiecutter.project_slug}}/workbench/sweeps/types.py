"""The values that the parts of a sweep exchange: plain dataclasses and enums."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto

# A value of a parameter: a number, or the text of an option as typed on the command line.
Value = int | float | str

# More trials than any sweep runs: the number of trials if only a budget of epochs limits it.
UNLIMITED = 10**9


class State(StrEnum):
    """The state of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    # To be resumed by the next command: neither a result nor a failure.
    STOPPED = "stopped"
    # At a rung: resumed if it is promoted.
    PAUSED = "paused"
    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"


class Unit(StrEnum):
    """What the reports of a trial count."""

    EPOCH = "epoch"
    VALIDATION = "validation"
    STEP = "step"


class Verdict(Enum):
    """The answer to a report of a trial."""

    CONTINUE = auto()
    PRUNE = auto()
    # Save a checkpoint and end: the next command resumes the trial.
    STOP = auto()
    # Save a checkpoint and end: the trial is resumed if it is promoted.
    PAUSE = auto()


class Next(Enum):
    """What happens to a trial whose process has ended."""

    NOTHING = auto()
    RETRY = auto()
    RESUME = auto()
    # Resumed if it is promoted.
    PAUSE = auto()


@dataclass(frozen=True)
class Objective:
    """A metric and its direction, `min` or `max`."""

    metric: str
    mode: str


@dataclass(frozen=True)
class Trial:
    """A configuration to train.

    Attributes:
        number: its number in the study; its folder is `trials/<number>/`.
        params: the value of every parameter that exists in this configuration.
        earlier: numbers of its paused, interrupted or crashed attempts, the newest first.
    """

    number: int
    params: dict[str, Value]
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialOutcome:
    """How the process of a trial ended.

    Attributes:
        state: FINISHED, PRUNED, PAUSED or FAILED; STOPPED if the trial is to be resumed.
        metrics: metrics of the best epoch, with `parameters` and `seconds`.
        error: one line.
        retry: whether another attempt may succeed.
        traceback: of an unexpected error.
    """

    state: State
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    retry: bool = False
    traceback: str = ""


@dataclass(frozen=True)
class TrialRecord:
    """A trial as stored in the study; a row of the leaderboard.

    Attributes:
        values: one per objective; empty unless the trial finished.
        steps: the first objective after each epoch or validation, counted from 1.
        metrics: metrics of the best epoch, as far as they are known.
        worker: the worker that ran it, for the timeline.
        constraints: by how much each limit was exceeded; a limit is met at 0 or below.
        superseded: whether another trial repeats or resumes this one.
        version: index of the study's identity that it was trained with, counted from 0.
    """

    number: int
    state: State
    params: dict[str, Value]
    values: tuple[float, ...] = ()
    steps: dict[int, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    started: datetime | None = None
    ended: datetime | None = None
    worker: str = ""
    error: str = ""
    constraints: dict[str, float] = field(default_factory=dict)
    superseded: bool = False
    version: int = 0

    @property
    def is_feasible(self) -> bool:
        """Whether all limits are met."""
        return all(excess <= 0 for excess in self.constraints.values())

    def best_so_far(self, objective: Objective, until: int | None = None) -> float | None:
        """The best value of the first objective, including those of an unfinished trial.

        Args:
            objective: the first one.
            until: the last report that counts; None for all of them, and the result.
        """
        if self.values and until is None:
            return self.values[0]
        choose = max if objective.mode == "max" else min
        steps = (step for step in self.steps if until is None or step <= until)
        known = [self.steps[step] for step in steps if not math.isnan(self.steps[step])]
        return choose(known, default=None)


def excesses(metrics: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """By how much each limit is exceeded: at most 0 if it is met, infinite if not measured."""
    found = {name: metrics.get(name, math.nan) - limit for name, limit in limits.items()}
    return {name: math.inf if math.isnan(excess) else excess for name, excess in found.items()}


def out_of(count: int, total: int) -> str:
    """A count as text: "3 of 20", or "3" if there is no limit."""
    return f"{count} of {total}" if total < UNLIMITED else str(count)


def trial_folder(number: int) -> str:
    """The folder of a trial, relative to the sweep's folder."""
    return f"trials/{number:04d}"


def judged(outcome: TrialOutcome, objectives: Iterable[Objective]) -> TrialOutcome:
    """The outcome; FAILED if an objective was never a finite number."""
    for objective in objectives if outcome.state == State.FINISHED else []:
        if not math.isfinite(outcome.metrics.get(objective.metric, math.nan)):
            what = "a number" if objective.metric in outcome.metrics else "measured"
            error = f"{objective.metric} was never {what}"
            return TrialOutcome(State.FAILED, outcome.metrics, error)
    return outcome
