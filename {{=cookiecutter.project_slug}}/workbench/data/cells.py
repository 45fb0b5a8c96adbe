"""What the cells of a table mean: numbers, dates and labels.

Numbers and dates: the format is found from all cells of a column. A single cell often allows two
readings ("1,234", "01/02/2024"), a whole column seldom does. Dates become days since 1970-01-01.

Labels are classes of a target or levels of a categorical column. A column of numbers compares
numbers ("2", "2.0" and "02" are equal, 2**60 and 2**60 + 1 are not), a column of booleans ignores
case, and any other column compares texts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # Imported where it is used: it takes half a second and starts threads, which a server that
    # forks must not have.
    import polars as pl

# Between groups of three digits: spaces, including non-breaking ones, and apostrophes.
GROUPS = "[ \u00a0\u2009\u202f'\u2019]"
SIGN, EXPONENT = "^[+-]?", "(?:[eE][+-]?[0-9]+)?$"
PLAIN = rf"{SIGN}[0-9]*(?:\.[0-9]*)?{EXPONENT}"
GROUPED = f"[1-9][0-9]{{0,2}}(?:{GROUPS}[0-9]{{3}})+"
# Two digits in a group: India writes 12,34,567.
COMMAS = "[1-9][0-9]{0,2}(?:,[0-9]{2,3})*,[0-9]{3}"
POINTS = r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+"
POINT = rf"{SIGN}(?:{COMMAS}|{GROUPED}|[0-9]*)(?:\.[0-9]*)?{EXPONENT}"
COMMA = rf"{SIGN}(?:{POINTS}|{GROUPED}|[0-9]*)(?:,[0-9]*)?{EXPONENT}"
# Nobody groups digits in this notation, so its point never separates thousands.
SCIENTIFIC = rf"{SIGN}[0-9]+\.[0-9]+[eE][+-]?[0-9]+$"
# In a file with decimal commas, "1.234" may be 1234 or 1.234.
MAYBE_GROUPED = rf"{SIGN}{POINTS}$"

CURRENCIES = r"[$€£¥₹]|USD|EUR|GBP|CHF|JPY|CNY|INR"
UNIT_BEFORE = rf"^([+-]?)\s*({CURRENCIES})\s*"
UNIT_AFTER = rf"\s*(%|{CURRENCIES})$"

YEAR_FIRST = r"^([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})($|[T ])"
YEAR_LAST = r"^([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})($|[T ])"
# The United States put the month first, but never write points.
YEAR_LAST_NO_POINTS = r"^([0-9]{1,2})[-/]([0-9]{1,2})[-/]([0-9]{4})($|[T ])"
TIMES = ("", " %H:%M", " %H:%M:%S%.f", " %I:%M %p", " %I:%M:%S %p")
OFFSETS = (" %H:%M%#z", " %H:%M:%S%.f%#z")
MONTH_NAMES = ("%d %b %Y", "%d %B %Y", "%d-%b-%Y", "%b %d, %Y", "%B %d, %Y")
MICROSECONDS = 86_400_000_000  # in a day


class Format(StrEnum):
    """How the cells of a column are written."""

    PLAIN = "plain"
    DECIMAL_POINT = "decimal_point"
    DECIMAL_COMMA = "decimal_comma"
    YEAR_FIRST = "year_first"
    DAY_FIRST = "day_first"
    MONTH_FIRST = "month_first"
    MONTH_NAME = "month_name"
    TEXT = "text"

    @property
    def is_number(self) -> bool:
        """Whether the cells hold numbers."""
        return self in NUMBERS


NUMBERS = (Format.PLAIN, Format.DECIMAL_POINT, Format.DECIMAL_COMMA)
DATES = (Format.YEAR_FIRST, Format.DAY_FIRST, Format.MONTH_FIRST, Format.MONTH_NAME)

EXAMPLES = {
    Format.PLAIN: "1234.5",
    Format.DECIMAL_POINT: "1,234.5",
    Format.DECIMAL_COMMA: "1.234,5",
    Format.YEAR_FIRST: "2024-01-31",
    Format.DAY_FIRST: "31/01/2024",
    Format.MONTH_FIRST: "01/31/2024",
    Format.MONTH_NAME: "31 Jan 2024",
}


@dataclass(frozen=True)
class Reading:
    """How to read the cells of a column.

    Args:
        format: of numbers or dates.
        unit: a percent sign, which every cell must have, or a currency, which is optional.
    """

    format: Format = Format.PLAIN
    unit: str = ""

    @classmethod
    def load(cls, values: dict[str, str]) -> "Reading":
        """The reading that `save` returned, from a checkpoint."""
        return cls(Format(values["format"]), values["unit"])

    def save(self) -> dict[str, str]:
        """Plain values for a checkpoint."""
        return {"format": self.format.value, "unit": self.unit}

    def expects(self) -> str:
        """What a cell should hold, for a message."""
        if self == Reading():
            return "a finite number"
        return f"a {'number' if self.format.is_number else 'date'} such as {self._example()}"

    def describe(self) -> str:
        """What the column holds, for a message."""
        if self == Reading():
            return "numbers"
        return f"{'numbers' if self.format.is_number else 'dates'} such as {self._example()}"

    def meaning(self, cell: str) -> str:
        """The number or date in a cell, for a message."""
        import polars as pl

        value = self.parse(pl.Series([cell]))[0]
        if self.format.is_number:
            return f"{value:.15g}"
        return f"{datetime(1970, 1, 1) + timedelta(days=value):%Y-%m-%d}"

    def _example(self) -> str:
        example = EXAMPLES[self.format]
        return f"{example}%" if self.unit == "%" else f"{self.unit}{example}"

    def parse(self, texts: "pl.Series") -> "pl.Series":
        """Numbers; null where a text cannot be read like this."""
        if self.format.is_number:
            return _parse_numbers(texts, self)
        return _parse_dates(texts, self.format)


def find_unit(texts: "pl.Series", counts: "pl.Series") -> str:
    """The percent sign or currency of most cells, "" if most have none.

    Args:
        texts: the distinct cells.
        counts: number of cells with each text.
    """
    import polars as pl

    unit = pl.coalesce(
        texts.str.extract(UNIT_AFTER, 1), texts.str.extract(UNIT_BEFORE, 2), pl.lit("")
    )
    found = pl.select(unit.alias("unit"), counts.alias("count"))
    totals = found.group_by("unit").agg(pl.col("count").sum()).sort("count", "unit")
    return str(totals["unit"][-1]) if len(totals) else ""


def maybe_grouped(cells: "pl.Series") -> str | None:
    """A cell such as "1.234", if every dot in a column may separate thousands."""
    dotted = cells.filter(cells.str.contains(".", literal=True))
    if len(dotted) and dotted.str.strip_chars().str.contains(MAYBE_GROUPED).all():
        return str(dotted[0]).strip()
    return None


def _parse_numbers(texts: "pl.Series", reading: Reading) -> "pl.Series":
    import polars as pl

    texts = texts.str.replace("\u2212", "-", literal=True)  # the Unicode minus sign
    # Accounts write negative amounts in parentheses.
    texts = texts.str.replace(r"^\((.*)\)$", "-$1")
    if reading.unit == "%":
        texts = texts.str.extract(r"^(.*?)\s*%$", 1)
    elif reading.unit:
        unit = reading.unit.replace("$", r"\$")
        texts = texts.str.replace(rf"^([+-]?)\s*{unit}\s*", "$1").str.replace(rf"\s*{unit}$", "")
    if reading.format is Format.PLAIN:
        pattern, plain = PLAIN, texts
    elif reading.format is Format.DECIMAL_POINT:
        pattern, plain = POINT, texts.str.replace_all(f"{GROUPS}|,", "")
    else:
        pattern = f"{COMMA}|{SCIENTIFIC}"
        plain = texts.str.replace_all(rf"{GROUPS}|\.", "").str.replace(",", ".", literal=True)
        plain = plain.zip_with(~texts.str.contains(SCIENTIFIC), texts)
    numbers = plain.cast(pl.Float64, strict=False)
    return numbers.set(~(texts.str.contains(pattern) & numbers.is_finite()), None)


def _parse_dates(texts: "pl.Series", written: Format) -> "pl.Series":
    import polars as pl

    if written is Format.MONTH_NAME:
        return _days(texts, [date + time for date in MONTH_NAMES for time in TIMES])
    # With years first, hyphens, and a space before the time, few patterns are left to try.
    match written:
        case Format.DAY_FIRST:
            fits, dates = texts.str.contains(YEAR_LAST), texts.str.replace(YEAR_LAST, "$3-$2-$1$4")
        case Format.MONTH_FIRST:
            fits = texts.str.contains(YEAR_LAST_NO_POINTS)
            dates = texts.str.replace(YEAR_LAST_NO_POINTS, "$3-$1-$2$4")
        case _:
            fits = texts.str.contains(YEAR_FIRST)
            dates = texts.str.replace(YEAR_FIRST, "$1-$2-$3$4")
    dates = dates.str.replace("T", " ", literal=True).str.replace(r"\s*Z$", "+00:00")
    days = _days(dates, [f"%Y-%m-%d{time}" for time in (*TIMES, *OFFSETS)])
    return days.set(~fits, None) if len(days) else days.cast(pl.Float64)


def _days(texts: "pl.Series", patterns: Iterable[str]) -> "pl.Series":
    """Days since 1970-01-01 in UTC, null where no pattern fits."""
    import polars as pl

    found = [
        texts.str.to_datetime(pattern, strict=False, time_unit="us").dt.epoch("us")
        for pattern in patterns
    ]
    return pl.select(pl.coalesce(found) / MICROSECONDS).to_series()


Key = Decimal | str

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
SHORT_DATE = re.compile(r"\d{1,2}([-/.])\d{1,2}\1\d{2}( .*)?", re.ASCII)
# Programs disagree on their case: Python writes True, JSON true, spreadsheets TRUE.
BOOLEANS = frozenset({"true", "false", "yes", "no", "t", "f", "y", "n"})


class Equality(StrEnum):
    """How a column compares its labels."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    TEXT = "text"
    EXACT = "exact"  # as TEXT, but an unknown text is never matched by number or case


def find_equality(texts: Iterable[str]) -> Equality:
    """How to compare the labels of a column with these texts."""
    texts = list(texts)
    if all(NUMBER.fullmatch(text) for text in texts):
        return Equality.NUMBER
    if all(text.casefold() in BOOLEANS for text in texts):
        return Equality.BOOLEAN
    return Equality.TEXT


def label_key(text: str, equality: Equality) -> Key:
    """Equal for equal labels."""
    if equality is Equality.NUMBER and NUMBER.fullmatch(text):
        # Exact, where floats would merge large integers.
        return Decimal(text)
    if equality is Equality.BOOLEAN:
        return text.casefold()
    # An accent is part of its letter in some files and a character of its own in others.
    return unicodedata.normalize("NFC", text)


def spellings(texts: Iterable[str], equality: Equality) -> dict[Key, str]:
    """The key and the shortest spelling of each label, sorted by key."""
    chosen: dict[Key, str] = {}
    for text in sorted(texts, key=lambda text: (len(text), text)):
        chosen.setdefault(label_key(text, equality), text)
    # The keys of one column are all numbers or all texts.
    return dict(sorted(chosen.items(), key=lambda item: item[0]))


def differ_in_case(texts: Iterable[str]) -> tuple[str, str] | None:
    """The first two texts that differ only in case."""
    seen: dict[str, str] = {}
    for text in sorted(texts):
        other = seen.setdefault(text.casefold(), text)
        if other != text:
            return other, text
    return None


class LabelFinder:
    """Finds the label that a text of a new table means.

    In a column of texts, a text that equals no label still means the only label that is the same
    number, or the same text in another case.

    Args:
        labels: those of the training split.
        equality: how their column compares them.
    """

    def __init__(self, labels: Sequence[str], equality: Equality) -> None:
        self.equality = equality
        self.exact = {label_key(label, equality): place for place, label in enumerate(labels)}
        self.numbers: dict[Key, int] = {}
        self.folded: dict[Key, int] = {}
        if equality is Equality.TEXT:
            self.numbers = _unique(
                {i: Decimal(label) for i, label in enumerate(labels) if NUMBER.fullmatch(label)}
            )
            self.folded = _unique({i: label.casefold() for i, label in enumerate(labels)})

    def find(self, text: str) -> int | None:
        """The position of the label; None if the text means none of them."""
        place = self.exact.get(label_key(text, self.equality))
        if place is None:
            place = self.numbers.get(label_key(text, Equality.NUMBER))
        if place is None:
            place = self.folded.get(text.casefold())
        return place


def _unique(keys: Mapping[int, Key]) -> dict[Key, int]:
    """The position of each key that occurs only once."""
    counts = Counter(keys.values())
    return {key: place for place, key in keys.items() if counts[key] == 1}


def looks_like_quantity(text: str) -> bool:
    """Whether a text has digits and no letters, like a time or a range of numbers."""
    return any(map(str.isdigit, text)) and not any(map(str.isalpha, text))


def looks_like_date(text: str) -> bool:
    """Whether a text is a date such as 31/01/24, whose year may be 1924, 2024 or 2031."""
    return bool(SHORT_DATE.fullmatch(text))


def merged_numbers(texts: Iterable[str]) -> tuple[int, int]:
    """The number of different numbers in the texts, exactly and as 64-bit floats."""
    numbers = {Decimal(text) for text in texts if NUMBER.fullmatch(text)}
    return len(numbers), len(set(map(float, numbers)))
