"""Reads a column of a CSV file as numbers, dates or texts, whichever all of its cells are."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .cells import (
    DATES,
    NUMBERS,
    Equality,
    Format,
    Key,
    Reading,
    find_equality,
    find_unit,
    spellings,
)
from .splits import Indices
from .table_file import TableFile, list_option, name_lines
from .tables import Column, Numbers, Words

if TYPE_CHECKING:
    import polars as pl

# What programs write for a missing value, besides an empty cell; case does not matter.
MISSING = ("na", "n/a", "nan", "null", "?")


@dataclass
class NumberCells:
    """A column of numbers.

    Args:
        values: NaN where the value is missing or wrong (N,).
        wrong: rows of the cells that hold something else.
        missing: text -> number of cells with it that were read as missing.
        plain: whether all cells are numbers as programs write them.
    """

    values: Numbers
    wrong: Indices
    missing: Counter[str] = field(default_factory=Counter)
    plain: bool = True


@dataclass
class DistinctCells:
    """The distinct texts of a column.

    Args:
        texts: without those that mark a missing value.
        codes: position in `texts` for each row, -1 for a missing value (N,).
        missing: text -> number of cells with it that were read as missing.
    """

    texts: "pl.Series"
    codes: NDArray[np.int64]
    missing: Counter[str]

    def counts(self) -> NDArray[np.int64]:
        """The number of cells with each text."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))

    def rows(self, chosen: NDArray[np.bool_]) -> Indices:
        """The rows that hold one of the chosen texts."""
        return np.flatnonzero(np.append(chosen, False)[self.codes])

    def numbers(self, parsed: "pl.Series") -> Numbers:
        """The column as numbers, given those of the texts; NaN where there is none."""
        return np.append(parsed.to_numpy(), np.nan)[self.codes]

    def words(self, equality: Equality | None = None) -> Words:
        """The column as labels, compared as the texts suggest."""
        texts = self.texts.to_list()
        # The missing value is at -1.
        codes = np.where(self.codes < 0, len(texts), self.codes)
        return Words([*texts, ""], codes, equality or find_equality(texts))


def missing_markers(markers: Iterable[Any] | None) -> frozenset[str]:
    """The texts that mark a missing value, in lower case; an empty cell always does."""
    return frozenset({"", *(str(marker).strip().lower() for marker in markers or ())})


def find_distinct(cells: "pl.Series", markers: frozenset[str]) -> DistinctCells:
    """The distinct texts of a column, sorted and stripped."""
    import polars as pl

    cells = cells.fill_null("")
    raw = cells.unique()
    # Stripped afterwards: most columns have many cells and few distinct ones.
    stripped = raw.str.strip_chars()
    texts = stripped.unique().sort()
    codes = _positions(stripped, texts)[_positions(cells, raw)]
    is_missing = texts.str.to_lowercase().is_in(list(markers)).to_numpy()
    counts = np.bincount(codes, minlength=len(texts))
    missing = {texts[int(i)]: int(counts[i]) for i in np.flatnonzero(is_missing)}
    present = np.cumsum(~is_missing) - 1
    present[is_missing] = -1
    return DistinctCells(texts.filter(pl.Series(~is_missing)), present[codes], Counter(missing))


def read_numbers(cells: "pl.Series", markers: frozenset[str], reading: Reading) -> NumberCells:
    """The numbers or dates of a column whose format is known."""
    import polars as pl

    count = len(cells)
    values, rest = np.full(count, np.nan), np.ones(count, dtype=bool)
    if reading == Reading():
        # Most columns need nothing else, and the rest has few distinct texts.
        values = np.array(cells.cast(pl.Float64, strict=False).to_numpy())
        rest = ~np.isfinite(values)
    if not rest.any():
        return NumberCells(values, np.empty(0, np.int64))
    distinct = find_distinct(cells.filter(pl.Series(rest)), markers)
    numbers = reading.parse(distinct.texts)
    values[rest] = distinct.numbers(numbers)
    wrong = np.flatnonzero(rest)[distinct.rows(numbers.is_null().to_numpy())]
    plain = not distinct.texts.cast(pl.Float64, strict=False).null_count()
    return NumberCells(values, wrong, distinct.missing, plain)


def _positions(cells: "pl.Series", among: "pl.Series") -> NDArray[np.int64]:
    """The position of each cell among distinct texts."""
    import polars as pl

    return cells.cast(pl.Enum(among)).to_physical().to_numpy().astype(np.int64)


@dataclass
class ReadColumn:
    """The values of a column and how they were read.

    Args:
        values: numbers or texts.
        reading: of numbers and dates; None for texts.
        missing: text -> number of cells with it that were read as missing.
        example: a cell that holds a value, "" for plain numbers.
        most: what more than half of the rows of a column of texts hold.
        others: the rows that do not.
    """

    values: Column
    reading: Reading | None
    missing: Counter[str]
    example: str = ""
    most: Reading | None = None
    others: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def words(self) -> Words:
        """The values of a column of texts."""
        assert isinstance(self.values, Words)
        return self.values

    def labels(self) -> dict[Key, str]:
        """The key and the spelling of each label in a column of texts, sorted by key."""
        return spellings(self.words.present(), self.words.equality)

    def missing_rows(self) -> Indices:
        """The rows without a value."""
        values = self.values
        return np.flatnonzero(values.missing() if isinstance(values, Words) else np.isnan(values))


@dataclass
class ColumnReader:
    """Reads columns of a table.

    Args:
        table: the file.
        markers: texts that mark a missing value.
        formats: column -> how its cells are written, if the user set it.
    """

    table: TableFile
    markers: frozenset[str]
    formats: Mapping[str, Format]

    def read(self, name: str) -> ReadColumn:
        """A column as numbers or dates if all its cells can be read as such, otherwise as texts.

        Raises:
            UserError: its cells can be read in two ways.
        """
        cells = self.table.column(name)
        plain = read_numbers(cells, self.markers, Reading())
        if name not in self.formats and plain.plain and not len(plain.wrong):
            return ReadColumn(plain.values, Reading(), plain.missing)
        distinct = find_distinct(cells, self.markers)
        if self.formats.get(name) is Format.TEXT:
            return ReadColumn(distinct.words(Equality.EXACT), None, distinct.missing)
        parsed: dict[Reading, pl.Series] = {}
        for readings in self._possible(name, distinct):
            parsed |= {reading: reading.parse(distinct.texts) for reading in readings}
            fitting = [reading for reading, values in parsed.items() if not values.null_count()]
            if fitting:
                self._check_single(name, distinct, {each: parsed[each] for each in fitting})
                example = distinct.texts[int(distinct.counts().argmax())]
                values = distinct.numbers(parsed[fitting[0]])
                return ReadColumn(values, fitting[0], distinct.missing, example)
        unread = {each: distinct.rows(parsed[each].is_null().to_numpy()) for each in parsed}
        most = min(unread, key=lambda reading: len(unread[reading]))
        if name in self.formats:
            self._reject(name, most, unread[most])
        column = ReadColumn(distinct.words(), None, distinct.missing)
        if len(unread[most]) < distinct.counts().sum() / 2:
            column.most, column.others = most, unread[most]
        return column

    def read_as_numbers(self, name: str) -> ReadColumn:
        """A column of numbers or dates.

        Raises:
            UserError: some of its cells hold something else, or can be read in two ways.
        """
        column = self.read(name)
        if column.reading is None:
            wrong = column.others
            if not len(wrong):
                wrong = read_numbers(self.table.column(name), self.markers, Reading()).wrong
            self._reject(name, column.most or Reading(), wrong)
        return column

    def read_as_texts(self, name: str) -> ReadColumn:
        """A column of texts, whatever its cells hold."""
        distinct = find_distinct(self.table.column(name), self.markers)
        exact = Equality.EXACT if self.formats.get(name) is Format.TEXT else None
        return ReadColumn(distinct.words(exact), None, distinct.missing)

    def cell(self, name: str, row: int) -> str:
        """One cell."""
        return str(self.table.column(name)[int(row)] or "").strip()

    def lines(self, rows: Indices) -> str:
        """The lines of these rows, for a message."""
        return name_lines([self.table.lines[row] for row in rows.tolist()])

    def _possible(self, name: str, distinct: DistinctCells) -> list[list[Reading]]:
        """The readings to try: numbers first, because dates take longer."""
        import polars as pl

        unit = find_unit(distinct.texts, pl.Series(distinct.counts()))
        if name in self.formats:
            return [[Reading(self.formats[name], unit)]]
        return [[Reading(each, unit) for each in NUMBERS], [Reading(each) for each in DATES]]

    def _reject(self, name: str, reading: Reading, wrong: Indices) -> None:
        raise UserError(
            f"Column '{name}' of {self.table.path} must hold {reading.expects()} in every cell, "
            f"but does not on {self.lines(wrong)} (first '{self.cell(name, wrong[0])}'): correct "
            "these cells."
        )

    def _check_single(
        self, name: str, distinct: DistinctCells, parsed: dict[Reading, "pl.Series"]
    ) -> None:
        """Raise a UserError if two readings fit and give different values."""
        first, *others = parsed
        # As programs write numbers; and without a point or comma, all notations are the same.
        if first.format is Format.PLAIN:
            return
        for other in others:
            different = parsed[first] != parsed[other]
            if different.any():
                cell = distinct.texts.filter(different)[0]
                options = " or ".join(
                    list_option(f"formats.{each.format}", [name]) for each in (first, other)
                )
                raise UserError(
                    f"Column '{name}' of {self.table.path} can be read in two ways, as '{cell}' "
                    f"may be {first.meaning(cell)} or {other.meaning(cell)}: set {options}."
                )
