"""The report of a sweep: a single HTML page that needs no network."""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from ..files import replace_text
from .figures import Figure, draw_figures
from .leaderboard import OWN_COLUMNS, best_trials, duration, leaderboard
from .space import Space, text
from .types import Objective, State, TrialRecord, Unit, trial_folder

# Beyond this, a spreadsheet is the better tool.
MOST_ROWS = 200
# Columns, and prefixes of columns, that are only in leaderboard.csv: they would widen the tables.
FOR_SPREADSHEETS = ("state", "error", "folder", "epoch", "step", "fraction")
OF_TRAINING = ("train/", "train_")
WORDS = {"min": "lowest", "max": "highest"}

# The page, with a part that is left out if there are no figures.
TEMPLATE = Path(__file__).with_name("report.html")
FIGURES = "<!-- figures -->\n"


def write_report(
    path: Path,
    title: str,
    records: Sequence[TrialRecord],
    objectives: Sequence[Objective],
    space: Space,
    facts: Mapping[str, str],
    more: Iterable[Figure] = (),
    remarks: Sequence[str] = (),
    unit: Unit = Unit.EPOCH,
    drawn: Sequence[Figure] | None = None,
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        title: name of the sweep.
        records: all trials.
        objectives: of the sweep.
        space: of the sweep.
        facts: further information by name, such as commands.
        more: figures that only the engine can draw.
        remarks: sentences about the result.
        unit: what the reports of a trial count.
        drawn: the figures that every engine has, if they have been drawn already.
    """
    if drawn is None:
        drawn = list(draw_figures(records, objectives, space, unit))
    figures = [*drawn, *more]
    body = [
        f"<h1>{html.escape(title)}</h1>",
        *_summary(records, objectives),
        *_remarks(remarks),
        *_winner(records, objectives),
        _section("Good to know", "", _facts(facts)),
        *(_figure(index, figure) for index, figure in enumerate(figures) if figure.plot),
        *_left_out(figures),
        *_tables(records, objectives, unit),
    ]
    head, scripts, tail = TEMPLATE.read_text("utf-8").split(FIGURES)
    page = Template(f"{head}{scripts if any(f.plot for f in figures) else ''}{tail}").substitute(
        title=html.escape(title), body="\n".join(body), **_scripts(figures)
    )
    replace_text(path, page)


def _summary(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Iterator[str]:
    """The objectives, the best values, and the key figures."""
    best = best_trials(records, objectives)
    goals = " and ".join(f"the {WORDS[o.mode]} {o.metric}" for o in objectives)
    found = ""
    if len(best) > 1:
        found = f" {len(best)} trials form the front: none of them beats another in every respect."
    yield f'<p>In search of {html.escape(goals)}.{found}</p><div class="tiles">'
    for index, objective in enumerate(objectives if best else []):
        values = [trial.values[index] for trial in best]
        value = min(values) if objective.mode == "min" else max(values)
        name = f"{objective.metric}, trial {best[values.index(value)].number}"
        yield _tile(_short(value), name, "best")
    counts = Counter(str(record.state) for record in records if not record.superseded)
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    yield _tile(str(counts.total()), states or "trials")
    times = [time for r in records for time in (r.started, r.ended) if time is not None]
    if times:
        worked = sum(float(duration(record) or 0) for record in records)
        yield _tile(_clock((max(times) - min(times)).total_seconds()), "from start to end")
        yield _tile(_clock(worked), "of all trials together")
    yield "</div>"


def _remarks(remarks: Sequence[str]) -> Iterator[str]:
    """What is easily overlooked in the tables."""
    if remarks:
        lines = "".join(f"<p>{html.escape(remark)}</p>" for remark in remarks)
        yield _section("Please note", "", lines)


def _winner(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Iterator[str]:
    """The parameters of the best trial; nothing with several objectives."""
    for trial in best_trials(records, objectives) if len(objectives) == 1 else []:
        values = {key: text(value) for key, value in trial.params.items()}
        yield _section(
            f"The best: trial {trial.number}", trial_folder(trial.number), _facts(values)
        )


def _tables(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], unit: Unit
) -> Iterator[str]:
    """The leaderboard, and the paused, stopped, pruned and failed trials."""
    rows = list(leaderboard(records, objectives, unit))
    finished, paused, stopped, pruned, failed = (
        [row for row in rows if row["state"] == state]
        for state in (State.FINISHED, State.PAUSED, State.STOPPED, State.PRUNED, State.FAILED)
    )
    shown = {objective.metric for objective in objectives} - {*OWN_COLUMNS}
    shown |= {key for record in records for key in record.params}
    columns = [
        key
        for key in (rows[0] if rows else ())
        if key in shown or not (key in FOR_SPREADSHEETS or key.startswith(OF_TRAINING))
    ]
    over = any(row["rank"] is None for row in finished)
    note = "Those without a rank exceed a limit." if over else ""
    yield _section("Leaderboard", note, _table(finished, columns))
    if paused:
        note = "Not among the best at their rung so far; a larger n_trials may change that."
        yield _section("Paused", note, _table(paused, columns[1:]))
    if stopped:
        note = "The same command resumes them; until they finish they have no rank."
        yield _section("Stopped", note, _table(stopped, columns[1:]))
    if pruned:
        yield _section("Pruned", "The most promising first.", _table(pruned, columns[1:]))
    if failed:
        columns = ["number", "error", "duration", "worker", "folder"]
        yield _section("Failed", "Each folder has a log.", _table(failed, columns))


def _figure(index: int, figure: Figure) -> str:
    height = figure.plot.layout.height or 380 if figure.plot else 0
    size = f"height: {height}px; min-width: {figure.width}px"
    place = f'<div class="scroll"><div id="figure-{index}" style="{size}"></div></div>'
    return _section(figure.title, figure.caption, place)


def _left_out(figures: Sequence[Figure]) -> Iterator[str]:
    """The figures that could not be drawn, and what they require."""
    missing = {figure.title: figure.caption for figure in figures if figure.plot is None}
    if missing:
        yield _section("Not drawn", "", _facts(missing, "span"))


def _scripts(figures: Sequence[Figure]) -> dict[str, str]:
    """Plotly and the figures, at the end of the page so that the text is displayed first."""
    from plotly.offline import get_plotlyjs

    # Plotly escapes < and > in texts, so no text can close the script element.
    drawn = {index: figure.plot for index, figure in enumerate(figures) if figure.plot}
    plots = [f'draw("figure-{index}", {plot.to_json()});\n' for index, plot in drawn.items()]
    return {"plotly": get_plotlyjs(), "plots": "".join(plots)}


def _section(title: str, caption: str, content: str) -> str:
    note = f"<p>{html.escape(caption)}</p>" if caption else ""
    return f"<section><h2>{html.escape(title)}</h2>{note}{content}</section>"


def _tile(number: str, name: str, style: str = "") -> str:
    return f'<section class="{style}"><b>{html.escape(number)}</b>{html.escape(name)}</section>'


def _facts(facts: Mapping[str, str], tag: str = "code") -> str:
    lines = (
        f"<tr><th>{html.escape(name)}</th><td><{tag}>{html.escape(value)}</{tag}></td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{''.join(lines)}</table>"


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """A table of the first `MOST_ROWS` rows."""
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    lines = "".join(
        f"<tr>{''.join(_cell(row[column]) for column in columns)}</tr>" for row in rows[:MOST_ROWS]
    )
    more = len(rows) - MOST_ROWS
    rest = f"<p>leaderboard.csv has {more} more.</p>" if more > 0 else ""
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>{rest}"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "<td></td>"
    if isinstance(value, int | float):
        return f'<td class="number">{_short(value)}</td>'
    return f"<td>{html.escape(value)}</td>"


def _short(number: float) -> str:
    """A number with at most four significant digits; an integer in full."""
    is_whole = float(number).is_integer() and abs(number) < 1e9
    return str(int(number)) if is_whole else f"{number:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
