"""The schedules that a population has found: its options over the epochs or validations."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from .figures import ACCENT, FAINT, Figure, label, styled
from .leaderboard import best_trials
from .types import Objective, TrialRecord, Unit

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

    from .tune_records import Row


def draw_schedules(
    keys: Sequence[str],
    rows: Mapping[int, Sequence["Row"]],
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    unit: Unit,
) -> Iterator[Figure]:
    """One figure for each option that may change while a trial trains.

    Args:
        keys: these options.
        rows: what each trial reported.
        records: the trials.
        objectives: what was optimised.
        unit: what the reports count.
    """
    best = {record.number for record in best_trials(records, objectives)}
    for key in keys:
        yield Figure(
            f"Schedule of {key}",
            f"The value in each {unit}; a jump is where a trial went on from a better one. In blue "
            "the best trial.",
            _plot(rows, key, best, unit),
        )


def _plot(rows: Mapping[int, Sequence["Row"]], key: str, best: set[int], unit: Unit) -> "Plot":
    from plotly.graph_objects import Figure as Plot

    plot = Plot()
    # The best last: on top of the others.
    for number in sorted(rows, key=lambda number: number in best):
        told = [row for row in rows[number] if row.value is not None and key in row.params]
        # A trial that went on from one behind it has trained some epochs again.
        values = {row.epoch: row.params[key] for row in told}
        is_best = number in best
        plot.add_scatter(
            x=sorted(values),
            y=[values[epoch] for epoch in sorted(values)],
            mode="lines",
            line={
                "color": ACCENT if is_best else FAINT,
                "width": 3 if is_best else 1,
                "shape": "vh",
            },
            opacity=1 if is_best else 0.6,
            name=f"trial {number}",
            showlegend=is_best,
        )
    seen = [row.params[key] for told in rows.values() for row in told if key in row.params]
    numbers = [value for value in seen if not isinstance(value, str)]
    if len(numbers) == len(seen) and min(numbers) > 0 and max(numbers) > 20 * min(numbers):
        plot.update_yaxes(type="log")
    plot.update_layout(xaxis_title=str(unit), yaxis_title=label(key))
    return styled(plot)
