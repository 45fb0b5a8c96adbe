"""What ends a sweep besides its number of trials: epochs, patience, and Optuna's terminator.

Everything is derived from the study, so that all commands that use it decide alike.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from .census import Census
from .leaderboard import best_trials
from .types import Objective, State, TrialRecord


@dataclass
class Budgets:
    """The budgets of a study.

    Attributes:
        epochs: number of epochs, or of validations if these are what trials report.
        patience: number of trials in a row without an improvement.
        terminator: Optuna's; None unless it was requested.
        every: number of epochs between two reports of a trial.
        deadline: the time of `time.monotonic` at which this command stops its trials.
        trained: number of epochs that all trials together have trained and reported.
    """

    epochs: int | None = None
    patience: int | None = None
    terminator: "Terminator | None" = None
    every: int = 1
    deadline: float = math.inf
    trained: int = field(default=0, init=False)
    # Of each trial, by its number.
    _trained: dict[int, int] = field(default_factory=dict, init=False)

    def note(self, changed: Iterable[FrozenTrial], census: Census) -> None:
        """Count the epochs of trials that are new or have changed."""
        for trial in changed:
            own = self._own(trial, census)
            self.trained += own - self._trained.get(trial.number, 0)
            self._trained[trial.number] = own

    def _own(self, trial: FrozenTrial, census: Census) -> int:
        """The number of epochs that a trial has trained itself.

        A resumed trial repeats the reports from before its checkpoint. They count only if the
        earlier attempt was killed between saving the checkpoint and sending the report.
        """
        earlier = census.attempts(trial)[1:]
        sent = {step for attempt in earlier for step in attempt.intermediate_values}
        spans = trial.user_attrs.get("repeated", ())
        sent &= {step for first, last in spans for step in range(first, last + 1)}
        steps = [0, *sorted(trial.intermediate_values)]
        # A larger gap follows a seed or fold that ended early.
        return sum(min(b - a, self.every) for a, b in pairwise(steps) if b not in sent)


def unimproved(records: Iterable[TrialRecord], objectives: Sequence[Objective]) -> int:
    """The number of trials that have ended since the last new best one.

    With several objectives, a trial that joins the Pareto front is an improvement. So is a paused
    trial that is better than all before it up to its rung, as few trials finish. Failed trials do
    not count, nor does anything before the first result.
    """
    states = (State.FINISHED, State.PAUSED, State.PRUNED)
    ended = [record for record in records if not record.superseded and record.state in states]
    ended.sort(key=lambda record: (record.ended or datetime.max, record.number))
    rungs = {max(r.steps) for r in ended if r.state is State.PAUSED and r.steps}
    leaders: dict[int, TrialRecord] = {}
    front: list[TrialRecord] = []
    count = 0
    for place, record in enumerate(ended):
        # Of equal values, the lowest number is the best.
        candidate = replace(record, number=place)
        front = best_trials([*front, candidate], objectives)
        leads = _leads(record, objectives[0], rungs, leaders)
        count = count + 1 if front and candidate not in front and not leads else 0
    return count


def _leads(
    record: TrialRecord, objective: Objective, rungs: set[int], leaders: dict[int, TrialRecord]
) -> bool:
    """Whether a paused trial is the best at its rung so far; the leaders are updated."""
    is_paused, length = record.state is State.PAUSED, max(record.steps, default=0)
    leads = False
    for rung in rungs if is_paused or record.state is State.FINISHED else ():
        value = record.best_so_far(objective, rung)
        if value is None or (is_paused and rung > length):
            continue
        best = leaders[rung].best_so_far(objective, rung) if rung in leaders else None
        if best is None or (value > best if objective.mode == "max" else value < best):
            leaders[rung] = record
            leads |= is_paused and rung == length
    return leads


class Terminator:
    """Optuna's terminator for results without cross-validation.

    It fits a Gaussian process to the finished trials, and considers a study converged when the
    expected improvement is a hundredth of what it was for the 11th to 30th trial (Ishibashi et al.,
    "A stopping criterion for Bayesian optimization by the gap of expected minimum simple regrets",
    AISTATS 2023).
    """

    def __init__(self) -> None:
        self._threshold: Any = None
        self._judged = (0, False)

    def has_converged(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> bool:
        """Whether more trials will hardly help; judged once per finished trial."""
        finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
        if len(finished) == self._judged[0]:
            return self._judged[1]
        from optuna.terminator import EMMREvaluator, MedianErrorEvaluator

        with warnings.catch_warnings():
            # The evaluators are experimental, and cannot judge a space without a common option.
            warnings.simplefilter("ignore")
            self._threshold = self._threshold or MedianErrorEvaluator(EMMREvaluator(seed=0))
            least = self._threshold.evaluate(finished, study.direction)
            # A new one each time, so that the judgement depends on the trials only.
            latest = EMMREvaluator(seed=0)
            gain = latest.evaluate(finished, study.direction) if least > 0 else least
        self._judged = len(finished), gain < least
        return self._judged[1]
