"""Reads a column of a CSV file as numbers, dates or texts, whichever all of its cells are."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from .cells import DistinctCells, find_distinct, read_numbers
from .checks import list_option
from .labels import Equality
from .readings import DATES, NUMBERS, Format, Reading, find_unit
from .splits import Indices
from .table_file import TableFile, name_lines
from .tables import Column, Words

if TYPE_CHECKING:
    import polars as pl


@dataclass
class ReadColumn:
    """The values of a column and how they were read.

    Args:
        values: numbers, or texts with those that are equal.
        reading: of numbers and dates; None for texts.
        missing: text -> number of cells with it that were read as missing.
        example: a cell that holds a value, "" for plain numbers.
        most: what more than half of the rows hold, if the others make texts of the column.
        others: the other rows.
    """

    values: Column
    reading: Reading | None
    missing: Counter[str]
    example: str = ""
    most: Reading | None = None
    others: Indices = field(default_factory=lambda: np.empty(0, np.int64))

    def missing_rows(self) -> Indices:
        """The rows without a value."""
        if isinstance(self.values, Words):
            empty = np.array([not text for text in self.values.texts])
            return np.flatnonzero(empty[self.values.codes])
        return np.flatnonzero(np.isnan(self.values))


@dataclass
class ColumnReader:
    """Reads columns of a table.

    Args:
        table: the file.
        markers: texts that mark a missing value.
        formats: column -> how its cells are written, where the user said so.
    """

    table: TableFile
    markers: frozenset[str]
    formats: Mapping[str, Format]

    def read(self, name: str) -> ReadColumn:
        """A column as numbers or dates if all its cells can be read so, else as texts.

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
            self._refuse(name, most, unread[most])
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
            self._refuse(name, column.most or Reading(), wrong)
        return column

    def read_as_texts(self, name: str) -> ReadColumn:
        """A column of labels, whatever its cells hold."""
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
        """The readings to try: numbers, and then dates, which take longer."""
        import polars as pl

        unit = find_unit(distinct.texts, pl.Series(distinct.counts()))
        if name in self.formats:
            return [[Reading(self.formats[name], unit)]]
        return [[Reading(each, unit) for each in NUMBERS], [Reading(each) for each in DATES]]

    def _refuse(self, name: str, reading: Reading, wrong: Indices) -> None:
        raise UserError(
            f"Column '{name}' of {self.table.path} holds something else than {reading.expects()} "
            f"on {self.lines(wrong)} (first '{self.cell(name, wrong[0])}'): mend these cells."
        )

    def _check_single(
        self, name: str, distinct: DistinctCells, parsed: dict[Reading, "pl.Series"]
    ) -> None:
        """Raise a UserError if two readings fit and give different values."""
        first, *others = parsed
        # Numbers as programs write them; and without point or comma all notations are the same.
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
                    f"may be {first.meaning(cell)} or {other.meaning(cell)}: say {options}."
                )
