"""`runs.py`: all runs in one table, read from their `run.json`, or the difference of two."""

import argparse
import csv
import math
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..project import project
from .difference import find_run, print_difference
from .manifest import MANIFEST, read_manifest
from .metric_names import PLACES, split_name

Row = dict[str, Any]
# The folder in a sweep's that holds the runs of its trials.
TRIALS = "trials"
# The printed columns; a CSV file also has every metric of every part.
MAIN_COLUMNS = (
    "run",
    "status",
    "folds",
    "started",
    "fit (s)",
    "git",
    "objective",
    "best",
    "final",
    "test",
)


def main() -> None:
    """Run the command line of `runs.py`."""
    if sys.argv[1:2] == ["diff"]:
        _compare(sys.argv[2:])
    else:
        _list(sys.argv[1:])


def _list(words: list[str]) -> None:
    """Print the table of all runs."""
    parser = argparse.ArgumentParser(
        description="All runs as one table; `runs.py diff A B` shows the differences of two."
    )
    parser.add_argument("log_dir", nargs="?", type=Path, default=project().root / "logs")
    parser.add_argument("--sort", metavar="COLUMN", default="started", help="best, test, ...")
    parser.add_argument("--csv", action="store_true", help="every metric, for a spreadsheet")
    parser.add_argument("--trials", action="store_true", help="include sweep trials and folds")
    arguments = parser.parse_args(words)
    rows = collect_rows(arguments.log_dir)
    shown = rows if arguments.trials else without_trials(rows)
    shown = sort_rows(shown, arguments.sort)
    print_csv(shown) if arguments.csv else print_table(shown)
    if len(shown) < len(rows):
        hidden = f"{len(rows) - len(shown)} sweep trials and folds of cross-validations"
        print(f"{hidden} are left out: --trials shows them.", file=sys.stderr)


def _compare(words: list[str]) -> None:
    """Print the differences between two runs."""
    parser = argparse.ArgumentParser(
        prog="runs.py diff", description="The causes and results in which two runs differ."
    )
    parser.add_argument("run", help="a folder, or the name that runs.py shows")
    parser.add_argument("other")
    parser.add_argument("--log-dir", type=Path, default=project().root / "logs")
    arguments = parser.parse_args(words)
    print_difference(*(find_run(n, arguments.log_dir) for n in (arguments.run, arguments.other)))


def collect_rows(log_dir: Path) -> list[Row]:
    """One row per run below `log_dir`, the oldest first.

    Raises:
        UserError: no such folder.
    """
    if not log_dir.is_dir():
        raise UserError(f"There is no folder {log_dir}: train first, or name the folder of runs.")
    manifests = sorted(log_dir.glob(f"**/{MANIFEST}"))
    rows = [_row(path.parent, log_dir) for path in manifests]
    return sorted(rows, key=lambda row: str(row["started"]))


def without_trials(rows: list[Row]) -> list[Row]:
    """The rows without the trials of sweeps and the folds of cross-validations.

    They would hide the other runs. Each sweep has its own table, `leaderboard.csv`, and the row of
    a cross-validation has the means over its folds. The trials of a sweep whose folder is `log_dir`
    are kept.
    """
    folded = {row["run"] for row in rows if row["folds"]}
    return [
        row
        for row in rows
        if TRIALS not in Path(row["run"]).parts[1:] and str(Path(row["run"]).parent) not in folded
    ]


def sort_rows(rows: list[Row], column: str) -> list[Row]:
    """Sort by a column, the largest number first; runs without a value, or with NaN, come last.

    Raises:
        UserError: no run has this column.
    """
    known = columns_of(rows)
    if rows and column not in known:
        raise UserError(f"There is no column {column!r}; there are: {', '.join(known)}.")
    filled = [row for row in rows if not _is_missing(row.get(column))]
    numbers = all(isinstance(row[column], (int, float)) for row in filled)
    filled.sort(key=lambda row: row[column] if numbers else str(row[column]), reverse=numbers)
    return filled + [row for row in rows if _is_missing(row.get(column))]


def _is_missing(value: Any) -> bool:
    """Whether a value is None or NaN, which cannot be ordered."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def columns_of(rows: list[Row]) -> list[str]:
    """The main columns, then every metric that any run has."""
    metrics = {name for row in rows for name in row} - set(MAIN_COLUMNS)
    return [*MAIN_COLUMNS, *sorted(metrics)]


def print_table(rows: list[Row]) -> None:
    """Print the main columns as a table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*MAIN_COLUMNS)
    for row in rows:
        table.add_row(*(Text(_cell(row, column)) for column in MAIN_COLUMNS))
    # A file has no width to fit into.
    width = None if sys.stdout.isatty() else 250
    Console(width=width, markup=False, emoji=False).print(table)


def print_csv(rows: list[Row]) -> None:
    """Print all columns as CSV."""
    columns = columns_of(rows)
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _row(directory: Path, log_dir: Path) -> Row:
    try:
        return _row_of(read_manifest(directory), directory, log_dir)
    except (AttributeError, TypeError):
        # The run.json of another program, or one that was edited.
        return _row_of({}, directory, log_dir)


def _row_of(manifest: Row, directory: Path, log_dir: Path) -> Row:
    metrics, deviations = manifest.get("metrics", {}), manifest.get("deviations", {})
    row: Row = {
        "run": str(directory.relative_to(log_dir)),
        "status": manifest.get("status", "unreadable"),
        "folds": len(manifest.get("folds", [])) or None,
        "started": manifest.get("started"),
        "fit (s)": manifest.get("timings", {}).get("fit"),
        "git": manifest.get("git", {}).get("commit", "")[:7],
    }
    objective = (manifest.get("config", {}).get("objective") or {}).get("metric") or ""
    for part in ("best", "final", "averaged", "test", "test averaged"):
        for name, value in metrics.get(part, {}).items():
            stage, metric = split_name(name)
            if stage in ("", "test" if part.startswith("test") else "val") and name not in PLACES:
                row[f"{part} {metric}"] = value
                if name in deviations.get(part, {}):
                    row[f"{part} {metric} std"] = deviations[part][name]
        if part in MAIN_COLUMNS:
            metric = split_name(objective)[1]
            row[part] = row.get(f"{part} {metric}")
            if f"{part} {metric} std" in row:
                row[f"{part} std"] = row[f"{part} {metric} std"]
    return row | {"objective": objective}


def _cell(row: Row, column: str) -> str:
    """A value, with its standard deviation over folds if there is one."""
    deviation = row.get(f"{column} std")
    text = _text(row.get(column))
    return text if deviation is None else f"{text} ± {_text(deviation)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
