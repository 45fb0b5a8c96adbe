"""Which trials are the best, and all of them in one table."""

import csv
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import replacing
from .types import Objective, State, TrialRecord, Unit, trial_folder

# The order of the leaderboard, after the trials that finished and kept all limits.
STATES = (
    State.FINISHED,
    State.STOPPED,
    State.PRUNED,
    State.FAILED,
    State.RUNNING,
    State.WAITING,
)
# Columns that are neither options nor metrics, beside the one that counts the reports.
OWN_COLUMNS = ("rank", "number", "state", "duration", "worker", "error", "folder")


def best_trials(
    records: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> list[TrialRecord]:
    """The best trial, or with several objectives all that no other one beats in every respect.

    Args:
        records: all trials.
        objectives: what is better.

    Returns:
        The best first; empty where no trial finished within its limits.
    """
    front: list[TrialRecord] = []
    for record in _candidates(records, objectives):
        losses = _losses(record, objectives)
        # Sorted by the first objective: nothing that comes later can beat what is in the front.
        if not any(_beats(_losses(other, objectives), losses) for other in front):
            front.append(record)
    return front if len(objectives) > 1 else front[:1]


def ranked(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The trials in the order of the leaderboard, without those that others took the place of.

    Args:
        records: all trials.
        objectives: what is better; with several, the front comes first.
    """
    front = best_trials(records, objectives)
    good = _candidates(records, objectives)
    rows = front + [record for record in good if record not in front]
    done = {record.number for record in rows}
    others = [r for r in records if not r.superseded and r.number not in done]
    return rows + sorted(others, key=lambda record: _order(record, objectives))


def finished(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """The trials that have a number for every objective, whether or not they keep the limits."""
    return [
        record
        for record in records
        if record.state is State.FINISHED
        and not record.superseded
        and len(record.values) == len(objectives)
        and not any(map(math.isnan, record.values))
    ]


def write_leaderboard(
    path: Path,
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    unit: Unit = Unit.EPOCH,
) -> None:
    """Write one row per trial, the best first.

    Args:
        path: the CSV file.
        records: all trials.
        objectives: what is better; the trials of a front share the first rank.
        unit: what the reports of a trial count.
    """
    rows = list(leaderboard(records, objectives, unit))
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        # Every row has every column.
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["rank", "number", "state"])
        writer.writeheader()
        writer.writerows(rows)


def leaderboard(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], unit: Unit = Unit.EPOCH
) -> Iterator[dict[str, Any]]:
    """The rows of the leaderboard; what a trial does not have is None."""
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
        if record.state is State.STOPPED:
            values = {names[0]: record.best_so_far(objectives[0])} | values
        row: dict[str, Any] = {"rank": None if place > good else 1 if place <= best else place}
        row |= {"number": record.number, "state": str(record.state)}
        row |= {metric_column(name, taken): values.get(name) for name in names}
        row |= {key: record.params.get(key) for key in parameters}
        row |= {metric_column(name, taken): values.get(name) for name in others}
        # Not all epochs are reported: some without validation, some skipped by copying a trial.
        row[f"{unit}s"] = max(record.steps, default=0)
        row |= {"duration": duration(record), "worker": record.worker}
        yield row | {"error": record.error, "folder": trial_folder(record.number)}


def metric_column(name: str, taken: Collection[str] = OWN_COLUMNS) -> str:
    """The column of a metric, which may be called like another column."""
    return f"metric {name}" if name in taken else name


def duration(record: TrialRecord) -> float | None:
    """The seconds from start to end; None where a trial has not ended."""
    if record.started is None or record.ended is None:
        return None
    # A clock may have been set back in between.
    return round(max(0.0, (record.ended - record.started).total_seconds()), 1)


def _candidates(
    records: Sequence[TrialRecord], objectives: Sequence[Objective]
) -> list[TrialRecord]:
    """What finished within its limits, by the first objective; of equals the lowest number."""
    good = [record for record in finished(records, objectives) if record.is_feasible]
    return sorted(good, key=lambda record: (_losses(record, objectives), record.number))


def _losses(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The values, turned so that less is better."""
    return tuple(
        -value if objective.mode == "max" else value
        for value, objective in zip(record.values, objectives, strict=True)
    )


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def _order(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[int, float, int]:
    """Where a trial that is no candidate stands: by state, then by how far it came."""
    loss = math.inf
    reached = None
    if record.state is State.PRUNED and record.steps:
        reached = record.steps[max(record.steps)]
    elif record.state is State.STOPPED:
        reached = record.best_so_far(objectives[0])
    if reached is not None:
        loss = -reached if objectives[0].mode == "max" else reached
    # Nothing compares with NaN: one would leave the others in no order.
    return STATES.index(record.state), math.inf if math.isnan(loss) else loss, record.number


def _in_order(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, as they first appear."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))
