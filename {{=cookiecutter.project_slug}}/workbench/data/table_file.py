"""The cells of a CSV file as texts, with the line of each row.

Polars reads a regular file in parallel. It expects exactly one row on each line and quotes only
around cells, so every result is checked by counting; any other file is read by Python's csv module,
which takes several times as long.
"""

import csv
import io
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError, nearest

if TYPE_CHECKING:
    # Imported where it is used: it takes half a second and starts threads, which a server that
    # forks must not have.
    import polars as pl

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# First bytes of files that are often given instead of CSV.
SIGNATURES = {
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "an Excel workbook or a ZIP archive",
    b"\x1f\x8b": "compressed",
}
# Rows that exist as Python objects at a time.
CHUNK = 20_000


@dataclass
class TableFile:
    """A header and the cells below it.

    Args:
        path: of the file.
        header: column names.
        cells: text of each cell (rows, columns); a row that is too short or long is cut or filled.
        lines: the line on which each row starts.
        faulty: row -> number of its cells, for rows that are too short or long.
    """

    path: Path
    header: list[str]
    cells: "pl.DataFrame"
    lines: Sequence[int]
    faulty: dict[int, int] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls, path: Path, header: list[str], rows: Iterable[list[str]], lines: Sequence[int]
    ) -> "TableFile":
        """A table from lists of cells."""
        import polars as pl

        width, count, faulty, chunks = len(header), 0, {}, []
        schema = {str(place): pl.String for place in range(width)}
        rows = iter(rows)
        while chunk := list(islice(rows, CHUNK)):
            for place, row in enumerate(chunk):
                if len(row) != width:
                    faulty[count + place] = len(row)
                    chunk[place] = (row + [""] * width)[:width]
            chunks.append(pl.DataFrame(chunk, schema=schema, orient="row"))
            count += len(chunk)
        return cls(path, header, pl.concat(chunks or [pl.DataFrame(schema=schema)]), lines, faulty)

    def column(self, name: str) -> "pl.Series":
        """The cells of one column as they are: null or "" if empty, perhaps with spaces around."""
        return self.cells.to_series(self.header.index(name))


def json_cell(value: Any) -> str:
    """The text of a JSON value as a CSV file would hold it, "" for null.

    JSON always uses a decimal point. The exponent prevents it from being read as a thousands
    separator in a column of decimal commas.
    """
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case float() if math.isfinite(value) and "e" not in repr(value):
            return f"{value!r}e0"
    # A lone surrogate cannot be sent back.
    return str(value).strip().encode("utf-8", "replace").decode()


def read_table_file(path: Path, delimiter: str | None = None) -> TableFile:
    """Read a CSV file: UTF-8, the first line holds the column names.

    Args:
        path: of the file.
        delimiter: one character; None takes the one that Excel names in a first line such as
            "sep=;", otherwise the most frequent of comma, semicolon, tab and bar in the first line.

    Raises:
        UserError: the file is missing, empty or not text, or its header cannot be used.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}: give the path of a CSV file.")
    delimiter = check_delimiter(delimiter)
    content = path.read_bytes()
    for signature, kind in SIGNATURES.items():
        if content.startswith(signature):
            raise UserError(f"{path} is {kind}: save it as CSV in UTF-8.")
    content = content.removeprefix(BYTE_ORDER_MARK).rstrip(b"\r\n")
    start = 1
    if named := re.match(rb"\"?sep=(.)\"?(\r\n|\n|\r)", content, re.IGNORECASE):
        delimiter = delimiter or named[1].decode("latin-1")
        content, start = content[named.end() :], 2
    first_line = content[: content.find(b"\n")] if b"\n" in content else content
    delimiter = delimiter or guess_delimiter(first_line.decode("utf-8", "replace"))
    table = _read_regular(path, content, delimiter, start)
    if table is None:
        table = _read_irregular(path, content, delimiter, start)
    _check_header(table)
    return table


def check_delimiter(delimiter: str | None) -> str | None:
    r"""The delimiter as one character; a backslash and a t, as a shell passes \t, is a tab."""
    delimiter = "\t" if delimiter == r"\t" else delimiter
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise UserError(
            f"The delimiter must be one character other than a quote, or null, not {delimiter!r}."
        )
    return delimiter


def guess_delimiter(first_line: str) -> str:
    """The most frequent of comma, semicolon, tab and bar outside of quotes, else the comma."""
    unquoted = re.sub(r'"[^"]*"', "", first_line)
    return max(",;\t|", key=unquoted.count)


def list_option(key: str, names: Iterable[str]) -> str:
    """The option `data.<key>=[...]`, quoted for Hydra and the shell where names require it."""
    return _quoted(f"data.{key}=[{','.join(map(_word, names))}]")


def name_option(key: str, name: str) -> str:
    """The option `data.<key>=<name>`, quoted like that of a list."""
    return _quoted(f"data.{key}={_word(name)}")


def _word(name: str) -> str:
    return name if re.fullmatch(r"\w[\w.-]*", name, re.ASCII) else f'"{name}"'


def _quoted(option: str) -> str:
    return shlex.quote(option) if '"' in option else option


def check_columns(names: Iterable[str], header: Sequence[str], path: Path) -> None:
    """Raise a UserError for the first name that is no column, with the nearest one that is."""
    for name in names:
        if name not in header and len(header) == 1:
            raise UserError(
                f"{path} has no column {name!r} but the single column {header[0]!r}: set how "
                "columns are separated with data.delimiter=..."
            )
        if name not in header:
            raise UserError(f"{path} has no column {name!r}; {nearest(name, header)}")


def name_lines(lines: Sequence[int]) -> str:
    """For example "line 7" or "lines 3, 7, 8, 9, 12 and 4 more"."""
    if len(lines) == 1:
        return f"line {lines[0]}"
    named = ", ".join(str(line) for line in lines[:5])
    return f"lines {named}" + (f" and {len(lines) - 5} more" if len(lines) > 5 else "")


def _read_regular(path: Path, content: bytes, delimiter: str, start: int) -> TableFile | None:
    """The table if each line is one row with as many cells as the header, otherwise None."""
    import polars as pl

    # Polars takes a single byte. Spaces between columns may be repeated.
    if not content or not delimiter.isascii() or delimiter == " ":
        return None
    try:
        cells = pl.read_csv(content, has_header=False, separator=delimiter, infer_schema=False)
    except pl.exceptions.PolarsError:
        return None
    rows, width = cells.shape
    inside = 0
    if b'"' in content:
        everything = pl.all().fill_null("").str
        if any(cells.select(everything.contains('"', literal=True).any()).row(0)):
            return None
        inside = sum(cells.select(everything.count_matches(delimiter, literal=True).sum()).row(0))
    regular = (
        rows > 1
        and width > 1
        and content.count(b"\n") + 1 == rows
        and content.count(delimiter.encode()) == rows * (width - 1) + inside
    )
    if not regular:
        return None
    header = [(name or "").strip() for name in cells.row(0)]
    return TableFile(path, header, cells.slice(1), range(start + 1, start + rows))


def _read_irregular(path: Path, content: bytes, delimiter: str, start: int) -> TableFile:
    """Any other table, row by row.

    Raises:
        UserError: the file holds no text, a quote that is never closed, or no rows.
    """
    lines: list[int] = []
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")
    rows = _numbered_rows(text, delimiter, start, lines)
    try:
        header = [name.strip() for name in next(rows, [])]
        table = TableFile.from_rows(path, header, rows, lines)
    except UnicodeDecodeError:
        raise UserError(_not_utf8(path, content, start)) from None
    except csv.Error as error:
        raise UserError(
            f"{path} cannot be read as a table ({error}): save it as CSV in UTF-8."
        ) from error
    if table.cells.is_empty():
        raise UserError(f"{path} holds no rows: it needs a line of column names and data below it.")
    del lines[0]
    return table


def _numbered_rows(
    text: Iterable[str], delimiter: str, start: int, lines: list[int]
) -> Iterator[list[str]]:
    """The rows; the line on which each one starts is appended to `lines`."""
    # A quote that is never closed swallows everything below it, this line included.
    last = "\0end"
    reader = csv.reader(chain(text, [last]), delimiter=delimiter, skipinitialspace=True)
    line, width = start, 0
    for row in reader:
        if row == [last]:
            return
        blank = not row or (width > 1 and len(row) == 1 and not row[0].strip())
        if not blank:
            width = width or len(row)
            lines.append(line)
            yield row
        # A quoted cell may span several lines, so counting rows would not do.
        line = start + reader.line_num
    raise csv.Error(f"a quote in the row on line {lines[-1]} is never closed")


def _not_utf8(path: Path, content: bytes, start: int) -> str:
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = start + content.count(b"\n", 0, error.start)
        byte = f"the byte {content[error.start]:#x} on line {line}"
        return f"{path} is not UTF-8 text ({byte}): save it as CSV in UTF-8."
    raise AssertionError("it is UTF-8")


def _check_header(table: TableFile) -> None:
    twice = sorted({name for name in table.header if name and table.header.count(name) > 1})
    if twice:
        raise UserError(
            f"{table.path} has more than one column called '{twice[0]}': rename all but one."
        )
