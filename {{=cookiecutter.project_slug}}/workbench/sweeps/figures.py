"""The figures of a sweep's report: those of Optuna, drawn from the records, and two of our own."""

import html
import logging
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .leaderboard import best_trials, comparable, finished, ranked
from .space import Parameter, Space, text
from .types import Objective, State, TrialRecord, Unit, Value

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from plotly.graph_objects import Figure as Plot

log = logging.getLogger(__name__)

INK, GRID, ACCENT, FAINT = "#1d2939", "#eaecf0", "#2f5bea", "#98a2b3"
COLOURS = {
    State.FINISHED: "#2f9e6e",
    State.PAUSED: "#12a5bc",
    State.STOPPED: "#7a5af8",
    State.PRUNED: "#f0a500",
    State.FAILED: "#d64545",
    State.RUNNING: FAINT,
}
# More lines can neither be told apart nor drawn in reasonable time.
MOST_LINES = 300


@dataclass(frozen=True)
class Figure:
    """A figure, or the reason why it was not drawn.

    Attributes:
        title: of its section.
        caption: how to read it; without a plot, what it requires.
        plot: the plotly figure.
        width: minimum width in pixels; on a narrower screen it is scrolled.
    """

    title: str
    caption: str
    plot: "Plot | None"
    width: int = 0


def draw_figures(
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    space: Space,
    unit: Unit = Unit.EPOCH,
) -> Iterator[Figure]:
    """Draw the figures that every engine has."""
    from optuna import visualization

    done = finished(records, objectives)
    alike, length = comparable(records, objectives)
    stage = f" after {length} {unit}s" if length else ""
    names = [label(objective.metric) for objective in objectives]
    if len(objectives) > 1:
        yield _drawn(
            "Pareto front",
            "The trials of the front, in blue, are not dominated by any other.",
            "two finished trials, and not more than three objectives",
            lambda: _front(make_study(done, objectives, space), names),
        )
    for index, objective in enumerate(objectives):
        yield from _draw_objective(done, alike, objective, index, space, stage)
    yield _drawn(
        "Learning curves",
        f"{objectives[0].metric} after every {unit}; crosses mark where trials were pruned.",
        f"a trial of two {unit}s",
        lambda: _curves(records, objectives, unit),
    )
    kept = [record for record in ranked(alike, objectives) if record.is_feasible]
    best = [replace(record, constraints={}) for record in kept[:MOST_LINES]]
    yield _drawn(
        f"All parameters together{stage}",
        f"One line for each of the best {len(best)} trials.",
        "two finished trials and a parameter",
        lambda: visualization.plot_parallel_coordinate(
            make_study(best, objectives, space), target_name=names[0]
        ),
        enough=len(best) > 1,
        width=_width(alike) + 200,
    )
    yield _drawn(
        "Workers",
        "Which trial ran where, and when.",
        "a trial that was started",
        lambda: _timeline(records),
    )


def draw_nothing() -> None:
    """Draw an empty figure: the first one takes longer, as plotly reads what figures consist of."""
    import optuna.visualization  # noqa: F401
    from plotly.graph_objects import Figure, Scatter

    styled(Figure(Scatter(x=[0], y=[0])))


def _draw_objective(
    done: Sequence[TrialRecord],
    alike: Sequence[TrialRecord],
    objective: Objective,
    index: int,
    space: Space,
    stage: str,
) -> Iterator[Figure]:
    """The figures of one objective, as if there were no other."""
    name = label(objective.metric)

    def study(records: Sequence[TrialRecord]) -> "Study":
        alone = [replace(record, values=record.values[index : index + 1]) for record in records]
        return make_study(alone, [objective], space)

    yield _drawn(
        f"History of {objective.metric}",
        "Every finished trial, and the best so far.",
        "two finished trials",
        lambda: _history(study(done), name),
        enough=len(done) > 1,
    )
    yield _drawn(
        f"What matters for {objective.metric}{stage}",
        "How much each parameter decides whether a trial is among the best (PED-ANOVA).",
        "two finished trials with different values",
        lambda: _importances(study(alike), name),
        enough=len({record.values[index] for record in alike}) > 1,
    )
    yield _drawn(
        f"{objective.metric} by parameter{stage}",
        f"One point for each {'' if stage else 'finished '}trial, darker the later it began.",
        "two finished trials and a parameter",
        lambda: _slices(study(alike), name),
        enough=len(alike) > 1,
        width=_width(alike),
    )


def _front(study: "Study", names: list[str]) -> "Plot":
    from optuna import visualization

    plot = visualization.plot_pareto_front(study, target_names=names)
    for trace in plot.data:
        is_best = trace is plot.data[-1]
        trace.marker = {"color": ACCENT if is_best else FAINT, "size": 9 if is_best else 6}
    return plot


def _history(study: "Study", name: str) -> "Plot":
    from optuna import visualization

    plot = visualization.plot_optimization_history(study, target_name=name)
    for trace in plot.data:
        if trace.mode == "lines":
            line = {"color": ACCENT, "width": 2.5, "shape": "hv"}
            trace.update(name="best so far", line=line)
        elif trace.name == "Infeasible Trial":
            trace.update(name="exceeds a limit", marker={"color": FAINT, "symbol": "circle-open"})
        else:
            trace.update(marker={"color": COLOURS[State.FINISHED], "size": 7})
    return _readable(plot, study)


def _importances(study: "Study", name: str) -> "Plot":
    from optuna import visualization

    plot = visualization.plot_param_importances(study, target_name=name)
    plot.update_traces(marker_color=ACCENT)
    return plot.update_layout(xaxis_title="importance", yaxis_title=None)


def _slices(study: "Study", name: str) -> "Plot":
    from optuna import visualization

    return _readable(visualization.plot_slice(study, target_name=name), study)


def _readable(plot: "Plot", study: "Study") -> "Plot":
    """Use a logarithmic axis where an outlier would flatten all other trials."""
    values = [trial.values[0] for trial in study.trials if trial.values]
    if min(values) > 0 and max(values) > 100 * statistics.median(values):
        plot.update_yaxes(type="log")
    return plot


def _curves(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], unit: Unit
) -> "Plot | None":
    """The objective after each epoch or validation, the best trials on top."""
    from plotly.graph_objects import Figure as Plot

    rows = [record for record in ranked(records, objectives) if record.steps]
    longest = max((len(record.steps) for record in rows), default=0)
    if longest < 2:
        return None
    best = [record for record in best_trials(records, objectives) if record.steps]
    # An even selection, from the best to the worst.
    others = [r for r in rows[:: len(rows) // MOST_LINES + 1] if r not in best]
    plot = Plot()
    for state, colour in COLOURS.items():
        members = [record for record in others if record.state is state]
        line = {"color": colour, "width": 1}
        _add_curves(plot, members, unit, name=str(state), line=line, opacity=0.6)
    _add_curves(plot, best, unit, name="best", line={"color": ACCENT, "width": 3})
    pruned = [record for record in others if record.state is State.PRUNED]
    plot.add_scatter(
        x=[max(record.steps) for record in pruned],
        y=[record.steps[max(record.steps)] for record in pruned],
        mode="markers",
        marker={"color": COLOURS[State.PRUNED], "symbol": "x", "size": 7},
        showlegend=False,
        hoverinfo="skip",
    )
    # No ticks between epochs.
    plot.update_xaxes(title=str(unit), dtick=max(1, longest // 10))
    return plot.update_yaxes(title=label(objectives[0].metric))


def _add_curves(plot: "Plot", records: Sequence[TrialRecord], unit: Unit, **style: Any) -> None:
    """Draw all curves as one line with gaps: one trace each would slow the page down."""
    points: list[tuple[float | None, ...]] = []
    for record in records:
        points += [(step, value, record.number) for step, value in sorted(record.steps.items())]
        points.append((None, None, None))
    if points:
        x, y, numbers = zip(*points, strict=True)
        hover = f"trial %{{customdata}}, {unit} %{{x}}: %{{y:.4g}}<extra></extra>"
        plot.add_scatter(x=x, y=y, customdata=numbers, mode="lines", hovertemplate=hover, **style)


def _timeline(records: Sequence[TrialRecord]) -> "Plot | None":
    """A row for each worker, with a bar for each trial."""
    from plotly.graph_objects import Figure as Plot

    spans = [(record, record.started, record.ended) for record in records]
    times = [time for _, *span in spans for time in span if time is not None]
    if not times:
        return None
    begin, end = min(times), max(times)
    total = (end - begin).total_seconds()
    unit, name = (1, "seconds") if total < 180 else (60, "minutes")
    plot = Plot()
    for state, colour in COLOURS.items():
        bars = [
            (label(r.worker), (start - begin) / unit, ((stop or end) - start) / unit, r.number)
            for r, start, stop in spans
            if r.state is state and start is not None
        ]
        if bars:
            workers, starts, lengths, numbers = zip(*bars, strict=True)
            plot.add_bar(
                y=workers,
                base=[start.total_seconds() for start in starts],
                x=[length.total_seconds() for length in lengths],
                customdata=numbers,
                orientation="h",
                name=str(state),
                marker={"color": colour, "line": {"color": "white", "width": 1}},
                hovertemplate=f"trial %{{customdata}}, {state}: %{{x:.3g}} {name}<extra></extra>",
            )
    lanes = sorted({label(record.worker) for record in records}, reverse=True)
    # The number of a worker is a name, not a quantity.
    axis = {"title": "worker", "type": "category", "categoryarray": lanes, "showgrid": False}
    plot.update_layout(barmode="overlay", height=150 + 34 * len(lanes), yaxis=axis)
    return plot.update_layout(xaxis_title=f"{name} since the sweep began")


def _width(records: Sequence[TrialRecord]) -> int:
    return 220 * len({key for record in records for key in record.params})


def _drawn(
    title: str,
    caption: str,
    needs: str,
    draw: Callable[[], "Plot | None"],
    enough: bool = True,
    width: int = 0,
) -> Figure:
    """Draw and style a figure, or state what it requires."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plot = draw() if enough else None
    except Exception:
        # A figure must never end a sweep.
        log.debug("no figure %r", title, exc_info=True)
        plot = None
    finally:
        optuna.logging.set_verbosity(verbosity)
    if plot is None or not plot.data:
        return Figure(title, f"requires {needs}", None)
    return Figure(title, caption, styled(plot), width)


def styled(plot: "Plot") -> "Plot":
    """Give figures of different origin the same style."""
    axis = {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True}
    plot.update_xaxes(axis)
    plot.update_yaxes(axis)
    # One tick per power of ten.
    for update in (plot.update_xaxes, plot.update_yaxes):
        update(dtick=1, exponentformat="power", selector={"type": "log"})
    return plot.update_layout(
        template="none",
        title=None,
        width=None,
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"bgcolor": "white", "font": {"color": INK}},
    )


def label(name: str) -> str:
    """A text for a figure, escaped because plotly interprets HTML tags."""
    return html.escape(name, quote=False)


def make_study(
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    space: Space,
) -> "Study":
    """An in-memory Optuna study of finished trials, whichever engine ran them."""
    import optuna
    from optuna.trial import TrialState, create_trial

    study = optuna.create_study(
        directions=["minimize" if o.mode == "min" else "maximize" for o in objectives]
    )
    study.set_metric_names([label(objective.metric) for objective in objectives])
    known = {parameter.key: parameter for parameter in space.parameters}
    values: dict[str, list[Value]] = {}
    for record in records:
        for key, value in record.params.items():
            values.setdefault(key, []).append(value)
    ranges = {key: _range(known.get(key), found) for key, found in values.items()}
    by_number = {record.number: record for record in records}
    for number in range(max(by_number, default=-1) + 1):
        if number in by_number:
            record = by_number[number]
            trial = create_trial(
                values=record.values,
                params={label(k): _choice(ranges[k], v) for k, v in record.params.items()},
                distributions={label(key): ranges[key] for key in record.params},
                constraints=record.constraints,
            )
        else:
            # Optuna numbers trials consecutively, so those that are not drawn need a placeholder.
            trial = create_trial(state=TrialState.FAIL)
        study.add_trial(trial)
    return study


def _range(parameter: Parameter | None, values: Sequence[Value]) -> "BaseDistribution":
    """The distribution of a parameter; trials of earlier spaces may lie outside the present one."""
    from optuna import distributions

    if (parameter and parameter.choices) or any(isinstance(value, str) for value in values):
        known = [*(parameter.choices or () if parameter else ()), *values]
        # 1 and 1.0 are different choices but equal numbers.
        is_ambiguous = len(set(known)) < len(set(map(text, known)))
        if is_ambiguous or any(isinstance(value, str) for value in known):
            known = [label(text(value)) for value in known]
        return distributions.CategoricalDistribution(tuple(dict.fromkeys(known)))
    numbers = [value for value in values if not isinstance(value, str)]
    ends = [*numbers, *((parameter.low, parameter.high) if parameter else ())]
    low, high = min(ends), max(ends)
    is_log = parameter is not None and parameter.log and low > 0
    if all(isinstance(number, int) for number in numbers):
        return distributions.IntDistribution(int(low), int(high), log=is_log)
    return distributions.FloatDistribution(low, high, log=is_log)


def _choice(distribution: "BaseDistribution", value: Value) -> Value:
    """A value in the representation of its distribution."""
    choices = getattr(distribution, "choices", (0,))
    return label(text(value)) if isinstance(choices[0], str) else value
