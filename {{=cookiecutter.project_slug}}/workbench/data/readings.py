"""How the numbers and dates of a column are written, found from all of its cells.

One cell often allows two readings ("1,234", "01/02/2024"), a whole column seldom does. Dates become
days since 1970-01-01.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

# Between groups of three digits: spaces, also those that do not break, and apostrophes.
GROUPS = "[ \u00a0\u2009\u202f'\u2019]"
SIGN, EXPONENT = "^[+-]?", "(?:[eE][+-]?[0-9]+)?$"
PLAIN = rf"{SIGN}[0-9]*(?:\.[0-9]*)?{EXPONENT}"
GROUPED = f"[1-9][0-9]{{0,2}}(?:{GROUPS}[0-9]{{3}})+"
# Two digits in a group: India writes 12,34,567.
COMMAS = "[1-9][0-9]{0,2}(?:,[0-9]{2,3})*,[0-9]{3}"
POINTS = r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+"
POINT = rf"{SIGN}(?:{COMMAS}|{GROUPED}|[0-9]*)(?:\.[0-9]*)?{EXPONENT}"
COMMA = rf"{SIGN}(?:{POINTS}|{GROUPED}|[0-9]*)(?:,[0-9]*)?{EXPONENT}"
# Nobody groups digits in this notation, so its point is never one between thousands.
SCIENTIFIC = rf"{SIGN}[0-9]+\.[0-9]+[eE][+-]?[0-9]+$"
# In a file with decimal commas, "1.234" may be a thousand or one and a bit.
MAYBE_GROUPED = rf"{SIGN}{POINTS}$"

CURRENCIES = r"[$€£¥₹]|USD|EUR|GBP|CHF|JPY|CNY|INR"
UNIT_BEFORE = rf"^([+-]?)\s*({CURRENCIES})\s*"
UNIT_AFTER = rf"\s*(%|{CURRENCIES})$"

YEAR_FIRST = r"^([0-9]{4})[-/.]([0-9]{1,2})[-/.]([0-9]{1,2})($|[T ])"
YEAR_LAST = r"^([0-9]{1,2})[-/.]([0-9]{1,2})[-/.]([0-9]{4})($|[T ])"
# The United States write months first, but never with points.
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
        unit: a percent sign, which every cell must have, or a currency, which cells may have.
    """

    format: Format = Format.PLAIN
    unit: str = ""

    @classmethod
    def load(cls, values: dict[str, str]) -> "Reading":
        """The reading that `save` gave to a checkpoint."""
        return cls(Format(values["format"]), values["unit"])

    def save(self) -> dict[str, str]:
        """Plain values, which a checkpoint can hold."""
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
        """Numbers, null where a text cannot be read in this way."""
        if self.format.is_number:
            return _parse_numbers(texts, self)
        return _parse_dates(texts, self.format)


def find_unit(texts: "pl.Series", counts: "pl.Series") -> str:
    """The percent sign or currency that most cells have, "" if most have none.

    Args:
        texts: the different cells.
        counts: how often each one occurs.
    """
    import polars as pl

    unit = pl.coalesce(
        texts.str.extract(UNIT_AFTER, 1), texts.str.extract(UNIT_BEFORE, 2), pl.lit("")
    )
    found = pl.select(unit.alias("unit"), counts.alias("count"))
    totals = found.group_by("unit").agg(pl.col("count").sum()).sort("count", "unit")
    return str(totals["unit"][-1]) if len(totals) else ""


def maybe_grouped(cells: "pl.Series") -> str | None:
    """A cell such as "1.234", if every point in a column may stand between thousands."""
    dotted = cells.filter(cells.str.contains(".", literal=True))
    if len(dotted) and dotted.str.strip_chars().str.contains(MAYBE_GROUPED).all():
        return str(dotted[0]).strip()
    return None


def _parse_numbers(texts: "pl.Series", reading: Reading) -> "pl.Series":
    import polars as pl

    texts = texts.str.replace("\u2212", "-", literal=True)  # a minus sign that is no hyphen
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
    # Years first, hyphens between, a space before the time: few patterns are left to try.
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
