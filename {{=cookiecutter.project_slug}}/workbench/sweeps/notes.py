"""What is worth knowing about the result of a sweep, in sentences; and trials that fail alike."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from .leaderboard import best_trials, comparable, finished, ranked
from .space import text
from .types import Objective, State, TrialOutcome, TrialRecord, Value, out_of

ENDED = (State.FINISHED, State.PAUSED, State.PRUNED, State.FAILED)
# They differ between any two trainings.
NOT_COMPARED = ("seconds",)
# Number of consecutive trials with the same error that end a sweep; fewer if none has finished.
SAME_ERRORS = 10
SAME_ERRORS_AT_FIRST = 3
# Numbers, memory addresses, and the values of a diverged loss.
NUMBER = re.compile(r"0x[0-9a-f]+|[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|\b(nan|inf)\b", re.IGNORECASE)


def why_no_winner(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], limits: Mapping[str, float]
) -> str | None:
    """Why there is no winner; None if there is one.

    Args:
        records: all trials.
        objectives: of the sweep.
        limits: the maximum of each limited metric.
    """
    if best_trials(records, objectives):
        return None
    counting = [record for record in records if not record.superseded]
    failed = [record for record in counting if record.state is State.FAILED]
    pruned = [record for record in counting if record.state is State.PRUNED]
    if done := finished(records, objectives):
        return f"There is no winner: {_over_limits(done, limits)}"
    if pruned:
        besides = f" and {len(failed)} failed" if failed else ""
        return (
            f"There is no winner: {len(pruned)} trials were pruned{besides}, and none finished. "
            "hydra/sweeper/pruner=none trains each of them to the end."
        )
    if all_failed(records):
        error, count = most_common_error(failed)
        share = "" if count == len(failed) else f", {count} of them"
        return f"There is no winner: all {len(failed)} trials failed{share} with: {error}"
    sentence = "There is no winner: no trial has finished yet"
    paused = [record for record in ranked(records, objectives) if record.state is State.PAUSED]
    for leader in paused[:1]:
        value = leader.best_so_far(objectives[0])
        reached = "" if value is None else f" with {value:.4g}"
        sentence += f"; trial {leader.number}, which is paused, leads{reached}"
    return f"{sentence}."


def all_failed(records: Sequence[TrialRecord]) -> bool:
    """Whether every trial that has ended failed; False if none has."""
    ended = [r.state for r in records if not r.superseded and r.state in ENDED]
    return bool(ended) and set(ended) == {State.FAILED}


def progress_of(records: Sequence[TrialRecord], total: int) -> str:
    """The progress in words, such as "3 of 20 trials have ended (3 finished)"."""
    counts = Counter(record.state for record in records if not record.superseded)
    ended = sum(counts[state] for state in ENDED)
    states = ", ".join(f"{counts[state]} {state}" for state in ENDED if counts[state])
    stopped = f", {counts[State.STOPPED]} were stopped" if counts[State.STOPPED] else ""
    states = f" ({states})" if states else ""
    return f"{out_of(ended, total)} trials have ended{states}{stopped}"


def notes(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[str]:
    """Remarks on what is easily overlooked in the table of trials."""
    return [*_stopped(records, objectives), *_without_effect(records, objectives)]


def _over_limits(done: Sequence[TrialRecord], limits: Mapping[str, float]) -> str:
    """Which limits are too low, and the trial that comes closest."""
    kept_by_none = [name for name in limits if all(r.constraints[name] > 0 for r in done)]
    parts = []
    for name in kept_by_none:
        nearest = min(done, key=lambda record: record.constraints[name])
        value = nearest.metrics.get(name, math.nan)
        parts.append(
            f"hydra.sweeper.limits allows {name} up to {limits[name]:g}, and the lowest value is "
            f"{value:g} (trial {nearest.number})"
        )
    if not parts:
        nearest = min(done, key=lambda record: _excess(record, limits))
        over = (name for name in limits if nearest.constraints[name] > 0)
        values = (f"{n} is {nearest.metrics[n]:g} and the limit {limits[n]:g}" for n in over)
        parts.append(
            "no trial meets all of hydra.sweeper.limits at once, and trial "
            f"{nearest.number} comes closest: {' and '.join(values)}"
        )
    return f"{'; '.join(parts)}."


def _excess(record: TrialRecord, limits: Mapping[str, float]) -> float:
    """By how much a trial exceeds its limits: the sum of the excesses relative to the limits."""
    excesses = ((record.constraints[name], limit) for name, limit in limits.items())
    return sum(max(excess, 0) / (abs(limit) or 1) for excess, limit in excesses)


def _stopped(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Iterator[str]:
    """Stopped trials cannot win yet, however good they are."""
    stopped = [r for r in ranked(records, objectives) if r.state is State.STOPPED]
    if not stopped:
        return
    goal = objectives[0]
    found = [(value, r) for r in stopped if (value := r.best_so_far(goal)) is not None]
    sentence = f"{len(stopped)} trials were stopped to be resumed and cannot win yet"
    if found and len(objectives) == 1:
        choose = max if goal.mode == "max" else min
        value, best = choose(found, key=lambda pair: pair[0])
        sentence += f"; the best of them is trial {best.number}, {goal.metric} {value:.4g} so far"
    yield f"{sentence}."


def _without_effect(
    records: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> Iterator[str]:
    """Options that were varied without any effect."""
    done, rung = comparable(records, objectives)
    # The few that were not paused are the best, and may well be equally good.
    is_few = rung is None and any(record.state is State.PAUSED for record in records)
    if is_few or len({tuple(record.params.items()) for record in done}) < 2:
        return
    varied = _varied(done)
    if len({record.values for record in done}) == 1:
        names = " and ".join(objective.metric for objective in objectives)
        difference = f"{', '.join(varied)} made no difference to {names}"
        if len({_measured(record) for record in done}) == 1:
            hint = "check that something reads what was varied"
        else:
            hint = "other metrics differ, so another objective may tell the trials apart"
        yield f"All trials ({len(done)}) scored exactly the same: {difference}; {hint}."
        return
    for name in varied if len(varied) > 1 else ():
        groups = _alike_but_for(name, done)
        if groups and all(len({_measured(record) for record in group}) == 1 for group in groups):
            yield (
                f"{name} made no difference: trials that differ only in it have exactly the same "
                "metrics; check that something reads it."
            )


def _varied(done: Sequence[TrialRecord]) -> list[str]:
    """The options with more than one value among the trials."""
    names = dict.fromkeys(name for record in done for name in record.params)
    return [name for name in names if len(_values_of(name, done)) > 1]


def _measured(record: TrialRecord) -> tuple[tuple[str, float], ...]:
    """The metrics of a trial by which it is compared with others."""
    metrics = {n: v for n, v in record.metrics.items() if n not in NOT_COMPARED}
    return tuple(sorted(metrics.items()))


def _alike_but_for(name: str, done: Sequence[TrialRecord]) -> list[list[TrialRecord]]:
    """Groups of trials that differ in this option only."""
    groups: dict[frozenset[tuple[str, str]], list[TrialRecord]] = {}
    for record in done:
        rest = frozenset((key, text(value)) for key, value in record.params.items() if key != name)
        groups.setdefault(rest, []).append(record)
    return [group for group in groups.values() if len(_values_of(name, group)) > 1]


def _values_of(name: str, records: Sequence[TrialRecord]) -> set[str | None]:
    return {text(r.params[name]) if name in r.params else None for r in records}


def kind_of(error: str, params: Mapping[str, Value]) -> str:
    """An error without what differs between trials: numbers, and the values that vary."""
    for value in params.values():
        if isinstance(value, str):
            error = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", error)
    return NUMBER.sub("#", error)


def most_common_error(failed: Sequence[TrialRecord]) -> tuple[str, int]:
    """The first error of the most frequent kind, and the number of trials with that kind."""
    kinds = Counter(kind_of(record.error, record.params) for record in failed)
    kind, count = kinds.most_common(1)[0]
    errors = (record.error for record in failed if kind_of(record.error, record.params) == kind)
    return next(errors), count


class Failures:
    """Counts consecutive trials that fail with the same kind of error.

    Attributes:
        count: number of the latest consecutive failures.
        error: the message of the latest.
        ever_finished: whether any trial of the sweep has finished or was pruned.
    """

    def __init__(self) -> None:
        self.count = 0
        self.error = ""
        self.ever_finished = False
        self._kind = ""

    def note(self, outcome: TrialOutcome, params: Mapping[str, Value]) -> None:
        """Count a trial; one that was stopped tells nothing."""
        if outcome.state is State.FAILED:
            kind = kind_of(outcome.error, params)
            self.count = self.count + 1 if self.count and kind == self._kind else 1
            self._kind, self.error = kind, outcome.error
        elif outcome.state is not State.STOPPED:
            self.count, self.ever_finished = 0, True

    @property
    def is_hopeless(self) -> bool:
        """Whether starting more trials is pointless."""
        return self.count >= (SAME_ERRORS if self.ever_finished else SAME_ERRORS_AT_FIRST)
