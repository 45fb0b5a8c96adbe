"""All runs in one table, read from their `run.json`."""

import csv
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from .manifest import MANIFEST, read_manifest

Row = dict[str, Any]
# Printed; a CSV file has every metric of every part besides.
MAIN_COLUMNS = (
    "run",
    "status",
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
    rows = [_row_or_none(path.parent, log_dir) for path in manifests]
    return sorted(rows, key=lambda row: str(row["started"]))


def sort_rows(rows: list[Row], column: str) -> list[Row]:
    """Sort by a column, the largest value first; runs without a value come last.

    Raises:
        UserError: no run has this column.
    """
    known = columns_of(rows)
    if rows and column not in known:
        raise UserError(f"There is no column {column!r}; there are: {', '.join(known)}.")
    filled = [row for row in rows if row.get(column) is not None]
    numbers = all(isinstance(row[column], (int, float)) for row in filled)
    filled.sort(key=lambda row: row[column] if numbers else str(row[column]), reverse=numbers)
    return filled + [row for row in rows if row.get(column) is None]


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
        table.add_row(*(Text(_text(row.get(column))) for column in MAIN_COLUMNS))
    # In a file there is no width to fit into.
    Console(width=None if sys.stdout.isatty() else 250).print(table)


def print_csv(rows: list[Row]) -> None:
    """Print the rows for a spreadsheet."""
    columns = columns_of(rows)
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _row_or_none(directory: Path, log_dir: Path) -> Row:
    """The row of a run; of a damaged or foreign file its name alone."""
    try:
        return _row(directory, log_dir, read_manifest(directory))
    except (AttributeError, TypeError):
        return _row(directory, log_dir, {})


def _row(directory: Path, log_dir: Path, manifest: dict[str, Any]) -> Row:
    metrics = manifest.get("metrics", {})
    row: Row = {
        "run": str(directory.relative_to(log_dir)),
        "status": manifest.get("status", "unreadable"),
        "started": manifest.get("started"),
        "fit (s)": manifest.get("timings", {}).get("fit"),
        "git": manifest.get("git", {}).get("commit", "")[:7],
    }
    objective = manifest.get("config", {}).get("objective", {}).get("metric", "")
    for part in ("best", "final", "averaged", "test", "test averaged"):
        for name, value in metrics.get(part, {}).items():
            stage, _, metric = name.rpartition("/")
            if stage == ("test" if part.startswith("test") else "val"):
                row[f"{part} {metric}"] = value
        if part in MAIN_COLUMNS:
            row[part] = row.get(f"{part} {objective.rpartition('/')[2]}")
    return row | {"objective": objective}


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
