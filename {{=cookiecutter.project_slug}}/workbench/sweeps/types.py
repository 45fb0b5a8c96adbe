"""What the parts of a sweep tell each other, as plain values."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum, auto

# A value of a parameter: a number, or the text of an option as it stands on a command line.
Value = int | float | str


class State(StrEnum):
    """What became of a trial."""

    WAITING = "waiting"
    RUNNING = "running"
    # To be resumed by the next command: neither a result nor a failure.
    STOPPED = "stopped"
    FINISHED = "finished"
    PRUNED = "pruned"
    FAILED = "failed"


class Unit(StrEnum):
    """What the reports of a trial count."""

    EPOCH = "epoch"
    VALIDATION = "validation"


class Verdict(Enum):
    """What a trial is told after each report."""

    CONTINUE = auto()
    PRUNE = auto()
    # Save a checkpoint and end: the trial will be resumed.
    PAUSE = auto()


class Next(Enum):
    """What happens to a trial whose process has ended."""

    NOTHING = auto()
    RETRY = auto()
    RESUME = auto()


@dataclass(frozen=True)
class Objective:
    """A metric and what is better, `min` or `max`."""

    metric: str
    mode: str


@dataclass(frozen=True)
class Trial:
    """A point of the search space to be tried.

    Attributes:
        number: its number in the study; its folder is `trials/<number>/`.
        params: the value of every parameter that exists at this point.
        earlier: numbers of earlier tries of this very point that broke off, the newest first.
    """

    number: int
    params: dict[str, Value]
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialOutcome:
    """How a trial's process ended.

    Attributes:
        state: FINISHED, PRUNED or FAILED; STOPPED if it is to be resumed.
        metrics: the metrics of its best epoch, and what else was measured.
        error: what went wrong, in one line.
        retry: whether another try may end better.
    """

    state: State
    metrics: dict[str, float] = field(default_factory=dict)
    error: str = ""
    retry: bool = False


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the study remembers it: a row of the leaderboard.

    Attributes:
        values: one per objective; empty where the trial did not finish.
        steps: the first objective after each epoch or validation, counted from 1.
        metrics: the metrics of the best epoch, as far as they are known.
        worker: which worker ran it, for the timeline.
        constraints: how far each limit was exceeded; not above zero is kept.
        superseded: another trial took its place after it broke off.
        version: which of the study's identities it was trained with, counted from 0.
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
        """Whether all limits are kept."""
        return all(excess <= 0 for excess in self.constraints.values())

    def best_so_far(self, objective: Objective) -> float | None:
        """The best value of the first objective, also of a trial that did not finish."""
        if self.values:
            return self.values[0]
        choose = max if objective.mode == "max" else min
        known = [value for value in self.steps.values() if not math.isnan(value)]
        return choose(known, default=None)


def excesses(metrics: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, float]:
    """How far each limit is exceeded: at most 0 if it is kept, infinite if it was not measured."""
    found = {name: metrics.get(name, math.nan) - limit for name, limit in limits.items()}
    return {name: math.inf if math.isnan(excess) else excess for name, excess in found.items()}


def trial_folder(number: int) -> str:
    """Where a trial writes, below the sweep's folder."""
    return f"trials/{number:04d}"


def judged(outcome: TrialOutcome, objectives: Iterable[Objective]) -> TrialOutcome:
    """The outcome, failed if an objective never was a number."""
    for objective in objectives if outcome.state == State.FINISHED else []:
        if not math.isfinite(outcome.metrics.get(objective.metric, math.nan)):
            what = "a number" if objective.metric in outcome.metrics else "measured"
            error = f"{objective.metric} was never {what}"
            return TrialOutcome(State.FAILED, outcome.metrics, error)
    return outcome
