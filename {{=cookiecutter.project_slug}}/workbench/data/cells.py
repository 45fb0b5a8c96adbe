"""The cells of one column as numbers or as different texts; what cannot be read is counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .labels import Equality, find_equality
from .readings import Reading
from .splits import Indices
from .tables import Numbers, Words

if TYPE_CHECKING:
    import polars as pl

# What programs write where a value is missing, besides an empty cell; case does not matter.
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
    """The different texts of a column.

    Args:
        texts: without those that mark a missing value.
        codes: position in `texts` for each row, -1 for a missing value (N,).
        missing: text -> number of cells with it that were read as missing.
    """

    texts: "pl.Series"
    codes: NDArray[np.int64]
    missing: Counter[str]

    def counts(self) -> NDArray[np.int64]:
        """How often each text occurs."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.texts))

    def rows(self, chosen: NDArray[np.bool_]) -> Indices:
        """The rows that hold one of the chosen texts."""
        return np.flatnonzero(np.append(chosen, False)[self.codes])

    def numbers(self, parsed: "pl.Series") -> Numbers:
        """The column as numbers, from those in the texts; NaN where there is none."""
        return np.append(parsed.to_numpy(), np.nan)[self.codes]

    def words(self, equality: Equality | None = None) -> Words:
        """The column as labels, compared as the texts suggest."""
        texts = self.texts.to_list()
        # The missing value lies at -1.
        codes = np.where(self.codes < 0, len(texts), self.codes)
        return Words([*texts, ""], codes, equality or find_equality(texts))


def missing_markers(markers: Iterable[Any] | None) -> frozenset[str]:
    """The texts that mark a missing value, in lower case; an empty cell always does."""
    return frozenset({"", *(str(marker).strip().lower() for marker in markers or ())})


def find_distinct(cells: "pl.Series", markers: frozenset[str]) -> DistinctCells:
    """The different texts of a column, sorted, without spaces around them."""
    import polars as pl

    cells = cells.fill_null("")
    raw = cells.unique()
    # Stripped afterwards: most columns have many cells and few different ones.
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
    """The numbers or dates of a column that is read in a known way."""
    import polars as pl

    count = len(cells)
    values, rest = np.full(count, np.nan), np.ones(count, dtype=bool)
    if reading == Reading():
        # Most columns need nothing else, and the rest has few different texts.
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
    """The position of each cell among different texts."""
    import polars as pl

    return cells.cast(pl.Enum(among)).to_physical().to_numpy().astype(np.int64)
