"""All runs in one table, read from their `run.json`."""

import csv
import math
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from .manifest import MANIFEST, read_manifest
from .summary import PLACES, split_name

Row = dict[str, Any]
# The folder in a sweep's that holds the runs of its trials.
TRIALS = "trials"
# Printed; a CSV file has every metric of every part besides.
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

    They would bury the runs. Each sweep has its own table, `leaderboard.csv`, and the row of a
    cross-validation has the means over its folds. The trials of a sweep whose folder was given as
    `log_dir` stay.
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
    """Nothing compares with NaN: one would leave the others in no order."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def columns_of(rows: list[Row]) -> list[str]:
    """The main columns, then every metric that any run has."""
    metrics = {name for row in rows for name in row} - set(MAIN_COLUMNS)
    return [*MAIN_COLUMNS, *sorted(metrics)]


def print_table(rows: list[Row]) -> None:
    """Print the rows for people."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*MAIN_COLUMNS)
    for row in rows:
        table.add_row(*(Text(_cell(row, column)) for column in MAIN_COLUMNS))
    # In a file there is no width to fit into.
    width = None if sys.stdout.isatty() else 250
    Console(width=width, markup=False, emoji=False).print(table)


def print_csv(rows: list[Row]) -> None:
    """Print the rows for a spreadsheet."""
    columns = columns_of(rows)
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _row(directory: Path, log_dir: Path) -> Row:
    try:
        return _row_of(read_manifest(directory), directory, log_dir)
    except (AttributeError, TypeError):
        # Somebody else's run.json, or one that was edited.
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
    """A value, with the standard deviation over folds where there is one."""
    deviation = row.get(f"{column} std")
    text = _text(row.get(column))
    return text if deviation is None else f"{text} ± {_text(deviation)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
