"""A table: a CSV file, and its first rows on the console."""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich.table
from rich.text import Text

from ..runs.summary import CONSOLE


@dataclass(frozen=True)
class Table:
    """Rows of values; NaN and None mean that there is no value.

    Attributes:
        columns: their names.
        rows: as many values each.
        shown: so many rows are also printed.
    """

    columns: list[str]
    rows: list[list[Any]]
    shown: int = 0

    def save(self, path: Path) -> None:
        """Write all rows as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([_text(value) for value in row] for row in self.rows)

    def show(self, title: str) -> None:
        """Print the first rows."""
        if not self.shown:
            return
        table = rich.table.Table(*self.columns, title=title, title_justify="left")
        for row in self.rows[: self.shown]:
            # Text, because a class may be called [red].
            table.add_row(*(Text(_text(value, ".3f")) for value in row))
        CONSOLE.print(table)
        left_out = len(self.rows) - self.shown
        if left_out > 0:
            CONSOLE.print(f"... and {left_out} more")


def _text(value: Any, numbers: str = "") -> str:
    """A cell; without a format, a number has all digits needed to read it back unchanged."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return format(value, numbers) if isinstance(value, float) else str(value)
