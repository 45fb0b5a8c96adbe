"""Reading a CSV file, with the line of everything that is wrong."""

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError, nearest

# What programs write where a value is missing; compared in lower case.
MISSING = frozenset({"", "na", "n/a", "nan", "null", "?"})
# The model computes with 32 bits.
LARGEST = 3.4e38


@dataclass
class TableFile:
    """The cells of a CSV file, as texts without spaces around them.

    Args:
        path: of the file.
        header: column names.
        rows: one list of cells for each row; a faulty row can have too few or too many.
        lines: the line on which each row starts.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]
    lines: list[int]

    def column(self, name: str) -> list[str]:
        """The cells of one column, "" where the value is missing."""
        place = self.header.index(name)
        return ["" if is_missing(row[place]) else row[place] for row in self.rows]

    def faulty_rows(self) -> list[int]:
        """Positions of the rows that have another number of cells than the header."""
        return [i for i, row in enumerate(self.rows) if len(row) != len(self.header)]


def read_table_file(path: Path, delimiter: str | None = None) -> TableFile:
    """Read a CSV file: UTF-8, the first line holds the column names.

    Args:
        path: of the file.
        delimiter: one character; None takes whichever of comma, semicolon, tab and bar occurs most
            often in the first line.

    Raises:
        UserError: the file is missing, empty or not text, or its header cannot be used.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}: give the path of a CSV file.")
    if delimiter is not None and len(delimiter) != 1:
        raise UserError(f"The delimiter must be one character or null, not {delimiter!r}.")
    try:
        # utf-8-sig also takes away the mark that Excel puts before the first column name.
        with path.open(encoding="utf-8-sig", newline="") as file:
            chosen = delimiter or guess_delimiter(file.readline())
            file.seek(0)
            lines, rows = _numbered_rows(csv.reader(file, delimiter=chosen, skipinitialspace=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} cannot be read as a table ({error}): save it as CSV in UTF-8."
        ) from error
    if len(rows) < 2:
        raise UserError(f"{path} holds no rows: it needs a line of column names and data below it.")
    table = TableFile(path, rows[0], rows[1:], lines[1:])
    _check_header(table)
    return table


def guess_delimiter(first_line: str) -> str:
    """The most frequent of comma, semicolon, tab and bar outside of quotes, else the comma."""
    unquoted = re.sub(r'"[^"]*"', "", first_line)
    return max(",;\t|", key=unquoted.count)


def is_missing(text: str) -> bool:
    """Whether a cell says that its value is missing."""
    return text.lower() in MISSING


def parse_number(text: str) -> float:
    """The number in a cell, NaN if it is missing.

    Raises:
        ValueError: the cell holds something else, or a number too large for 32 bits.
    """
    if is_missing(text):
        return math.nan
    number = float(text)
    # Python reads 1_000 as a number; in a table it is a name.
    if "_" in text or not abs(number) <= LARGEST:
        raise ValueError(text)
    return number


def is_number(text: str) -> bool:
    """Whether a cell holds a finite number or is missing."""
    try:
        parse_number(text)
    except ValueError:
        return False
    return True


def check_columns(names: Iterable[str], header: Sequence[str], path: Path) -> None:
    """Raise a UserError for the first name that is no column, with the nearest one that is."""
    for name in names:
        if name not in header and len(header) == 1:
            raise UserError(
                f"{path} has no column {name!r} but the single one {header[0]!r}: say how columns "
                "are separated with data.delimiter=..."
            )
        if name not in header:
            raise UserError(f"{path} has no column {name!r}; {nearest(name, header)}")


def name_lines(lines: Sequence[int]) -> str:
    """For example "line 7" or "lines 3, 7, 8, 9, 12 and 4 more"."""
    if len(lines) == 1:
        return f"line {lines[0]}"
    named = ", ".join(str(line) for line in lines[:5])
    return f"lines {named}" + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")


def _numbered_rows(reader: Iterable[list[str]]) -> tuple[list[int], list[list[str]]]:
    lines, rows = [], []
    line = 1
    for row in reader:
        if row:  # an empty line is no row
            lines.append(line)
            rows.append([cell.strip() for cell in row])
        # A quoted cell may go over several lines, so counting rows would not do.
        line = reader.line_num + 1  # type: ignore[attr-defined]
    return lines, rows


def _check_header(table: TableFile) -> None:
    twice = sorted({name for name in table.header if name and table.header.count(name) > 1})
    if twice:
        raise UserError(
            f"{table.path} has more than one column called '{twice[0]}': rename all but one."
        )
