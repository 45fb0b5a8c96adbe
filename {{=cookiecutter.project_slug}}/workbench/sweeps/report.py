"""The report of a sweep: one page that opens anywhere, without a network."""

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..files import replace_text
from .figures import Figure, draw_figures
from .leaderboard import OWN_COLUMNS, best_trials, duration, leaderboard
from .space import Space, text
from .types import Objective, State, TrialRecord, Unit, trial_folder

# More rows are for a spreadsheet.
MOST_ROWS = 200
# Columns that would only make the tables wide, and how the names of others begin.
FOR_SPREADSHEETS = ("state", "error", "folder", "epoch", "step", "fraction")
OF_TRAINING = ("train/", "train_")
WORDS = {"min": "lowest", "max": "highest"}

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f5f7; color: #1d2939; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1160px; margin: auto; padding: 2rem 1rem 4rem; }
h1, h2, td, section { overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 0 0 .3rem; }
p { margin: 0 0 .7rem; color: #667085; }
section { background: white; border: 1px solid #e4e7ec; border-radius: 10px;
  padding: 1.1rem 1.3rem; margin: 0 0 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 1rem; }
.tiles section { color: #667085; font-size: .85rem; }
.tiles b { display: block; color: #1d2939; font-size: 1.6rem; line-height: 1.3; }
.tiles .best b { color: #2f5bea; }
.scroll { overflow: auto; max-height: 36rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.2rem .35rem 0;
  border-bottom: 1px solid #eaecf0; }
th { color: #667085; font-weight: 500; }
thead th { position: sticky; top: 0; background: white; white-space: nowrap; }
.scroll td { min-width: 4rem; }
th, .number { white-space: nowrap; }
code { font: .85rem/1.5 ui-monospace, monospace; }
@media (max-width: 600px) {
  main { padding: 1rem .6rem 3rem; }
  section { padding: .9rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .tiles section { margin: 0; }
  .tiles b { font-size: 1.15rem; }
  .tiles + section { margin-top: .6rem; }
  tbody th { white-space: normal; overflow-wrap: normal; }
}
"""

# A finger on a figure scrolls the page; only a mouse zooms.
DRAW = """
const finger = matchMedia("(pointer: coarse)").matches;
function draw(place, plot) {
  if (finger) plot.layout.dragmode = false;
  const buttons = [["toImage", "resetScale2d"]];
  const config = {responsive: true, displaylogo: false, modeBarButtons: buttons};
  Plotly.newPlot(place, plot.data, plot.layout, config);
}
"""

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
<main>
{body}
</main>
{scripts}
</html>
"""


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
) -> None:
    """Write the report.

    Args:
        path: the HTML file.
        title: the name of the sweep.
        records: all trials.
        objectives: what was optimised.
        space: what varied.
        facts: what else is good to know, such as commands, by name.
        more: figures of the engine.
        remarks: sentences about the result.
        unit: what the reports of a trial count.
    """
    figures = [*draw_figures(records, objectives, space, unit), *more]
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
    page = PAGE.format(
        title=html.escape(title), style=STYLE, body="\n".join(body), scripts=_scripts(figures)
    )
    replace_text(path, page)


def _summary(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> Iterator[str]:
    """What was searched for and found, and the largest numbers."""
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
    """The parameters of the best trial, where there is one best."""
    for trial in best_trials(records, objectives) if len(objectives) == 1 else []:
        values = {key: text(value) for key, value in trial.params.items()}
        yield _section(
            f"The best: trial {trial.number}", trial_folder(trial.number), _facts(values)
        )


def _tables(
    records: Sequence[TrialRecord], objectives: Sequence[Objective], unit: Unit
) -> Iterator[str]:
    """The leaderboard, the trials that were pruned, and those that failed."""
    rows = list(leaderboard(records, objectives, unit))
    finished, stopped, pruned, failed = (
        [row for row in rows if row["state"] == state]
        for state in (State.FINISHED, State.STOPPED, State.PRUNED, State.FAILED)
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
    """What could not be drawn, and what it takes."""
    missing = {figure.title: figure.caption for figure in figures if figure.plot is None}
    if missing:
        yield _section("Not drawn", "", _facts(missing, "span"))


def _scripts(figures: Sequence[Figure]) -> str:
    """Plotly itself, and the figures; at the end of the page, so that its text shows at once."""
    drawn = {f"figure-{i}": figure.plot for i, figure in enumerate(figures) if figure.plot}
    if not drawn:
        return ""
    from plotly.offline import get_plotlyjs

    # Plotly writes < and > of texts as escapes: no text can end the script.
    plots = "".join(f'draw("{name}", {plot.to_json()});\n' for name, plot in drawn.items())
    return f"<script>{get_plotlyjs()}</script>\n<script>{DRAW}{plots}</script>"


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
    """A table of rows, or as many of them as a page bears."""
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
    """A number as people read it."""
    is_whole = float(number).is_integer() and abs(number) < 1e9
    return str(int(number)) if is_whole else f"{number:.4g}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{rest:.1f} s"
