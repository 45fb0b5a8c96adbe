"""Ranks the trials of a sweep and writes them to `leaderboard.csv`."""

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..files import replacing
from .types import Objective, State, TrialRecord, Unit, trial_folder

# The order of the leaderboard, after the trials that finished and kept all limits.
STATES = (
    State.FINISHED,
    State.PAUSED,
    State.STOPPED,
    State.PRUNED,
    State.FAILED,
    State.RUNNING,
    State.WAITING,
)
# Number of configurations to compare at a rung, if trials were paused.
ENOUGH = 10
# Columns that are neither options nor metrics; another one counts the reports.
OWN_COLUMNS = ("rank", "number", "state", "duration", "worker", "error", "folder")


def best_trials(
    records: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> list[TrialRecord]:
    """The best trial or, with several objectives, the Pareto front.

    Returns:
        The best by the first objective first; empty if no trial finished within the limits.
    """
    front: list[TrialRecord] = []
    for record in _candidates(records, objectives):
        losses = _losses(record, objectives)
        # Sorted by the first objective, so no later trial dominates one in the front.
        if not any(_dominates(_losses(other, objectives), losses) for other in front):
            front.append(record)
    return front if len(objectives) > 1 else front[:1]


def ranked(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The trials in the order of the leaderboard, without superseded ones.

    With several objectives, the Pareto front comes first.
    """
    front = best_trials(records, objectives)
    good = _candidates(records, objectives)
    rows = front + [record for record in good if record not in front]
    done = {record.number for record in rows}
    others = [r for r in records if not r.superseded and r.number not in done]
    return rows + sorted(others, key=lambda record: _order(record, objectives))


def finished(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The trials with a number for every objective, whether or not they meet the limits."""
    return [
        record
        for record in records
        if record.state is State.FINISHED
        and not record.superseded
        and len(record.values) == len(objectives)
        and not any(map(math.isnan, record.values))
    ]


def comparable(
    records: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> tuple[list[TrialRecord], int | None]:
    """The trials that tell what parameters do, and the number of reports up to which.

    These are the finished trials. If most were paused, these are all that reached the highest rung
    with enough of them, as values of different rungs do not compare.
    """
    done = finished(records, objectives)
    ended = [r for r in records if r.state is State.PAUSED and not r.superseded and r.steps]
    for rung in sorted({max(record.steps) for record in ended}, reverse=True):
        here = [*done, *(record for record in ended if max(record.steps) >= rung)]
        if len(here) >= ENOUGH:
            best = ((record, record.best_so_far(objectives[0], rung)) for record in here)
            kept = [(record, value) for record, value in best if value is not None]
            return [replace(r, state=State.FINISHED, values=(v,)) for r, v in kept], rung
    return done, None


def write_leaderboard(
    path: Path,
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    unit: Unit = Unit.EPOCH,
) -> None:
    """Write one row per trial to a CSV file, the best first; a Pareto front shares rank 1."""
    rows = list(leaderboard(records, objectives, unit))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        # Every row has every column.
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["rank", "number", "state"])
        writer.writeheader()
        writer.writerows(rows)


def leaderboard(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], unit: Unit = Unit.EPOCH
) -> Iterator[dict[str, Any]]:
    """The rows of the leaderboard; None where a trial has no value."""
    rows = ranked(records, objectives)
    good = len(_candidates(records, objectives))
    best = len(best_trials(records, objectives))
    names = [objective.metric for objective in objectives]
    parameters = _in_order(r.params for r in sorted(rows, key=lambda record: record.number))
    others = [name for name in _in_order(r.metrics for r in rows) if name not in names]
    taken = {*OWN_COLUMNS, *parameters, f"{unit}s"}
    for place, record in enumerate(rows, start=1):
        values: dict[str, float | None] = {}
        values |= record.metrics | dict(zip(names, record.values, strict=False))
        if record.state in (State.STOPPED, State.PAUSED):
            values = {names[0]: record.best_so_far(objectives[0])} | values
        row: dict[str, Any] = {"rank": None if place > good else 1 if place <= best else place}
        row |= {"number": record.number, "state": str(record.state)}
        row |= {metric_column(name, taken): values.get(name) for name in names}
        row |= {key: record.params.get(key) for key in parameters}
        row |= {metric_column(name, taken): values.get(name) for name in others}
        # The last step, not the number of reports: epochs without validation have none.
        row[f"{unit}s"] = max(record.steps, default=0)
        row |= {"duration": duration(record), "worker": record.worker}
        yield row | {"error": record.error, "folder": trial_folder(record.number)}


def metric_column(name: str, taken: Collection[str] = OWN_COLUMNS) -> str:
    """The column of a metric, whose name may be that of another column."""
    return f"metric {name}" if name in taken else name


def duration(record: TrialRecord) -> float | None:
    """Seconds from start to end; None if the trial has not ended."""
    if record.started is None or record.ended is None:
        return None
    # The clock may have been set back meanwhile.
    return round(max(0.0, (record.ended - record.started).total_seconds()), 1)


def _candidates(
    records: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> list[TrialRecord]:
    """The trials that finished within the limits, by objectives and then by number."""
    good = [record for record in finished(records, objectives) if record.is_feasible]
    return sorted(good, key=lambda record: (_losses(record, objectives), record.number))


def _losses(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The values, negated if higher is better."""
    return tuple(
        -value if objective.mode == "max" else value
        for value, objective in zip(record.values, objectives, strict=True)
    )


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _order(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[int, int, float, int]:
    """Sort key of a trial without a rank: by state, then by its last or best value.

    Paused trials are compared only with others that have been trained as far.
    """
    loss = math.inf
    reached = None
    if record.state is State.PRUNED and record.steps:
        reached = record.steps[max(record.steps)]
    elif record.state in (State.STOPPED, State.PAUSED):
        reached = record.best_so_far(objectives[0])
    if reached is not None:
        loss = -reached if objectives[0].mode == "max" else reached
    # Comparisons with NaN are always false: one NaN would leave the others unsorted.
    loss = math.inf if math.isnan(loss) else loss
    length = max(record.steps, default=0) if record.state is State.PAUSED else 0
    return STATES.index(record.state), -length, loss, record.number


def _in_order(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys in the order of their first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
