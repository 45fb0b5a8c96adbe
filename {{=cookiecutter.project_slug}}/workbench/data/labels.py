"""When two texts are the same label: classes of a target, levels of a categorical column.

A column of numbers compares numbers ("2", "2.0" and "02" are equal, 2**60 and 2**60 + 1 are not), a
column of booleans ignores case, and any other column compares texts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

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
    """How to compare the labels of a column that holds these texts."""
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
    """The key of each label with its shortest spelling, in the order of the keys."""
    chosen: dict[Key, str] = {}
    for text in sorted(texts, key=lambda text: (len(text), text)):
        chosen.setdefault(label_key(text, equality), text)
    # The keys of one column are all numbers or all texts.
    return dict(sorted(chosen.items(), key=lambda item: item[0]))


def differ_in_case(texts: Iterable[str]) -> tuple[str, str] | None:
    """The first two texts that differ in case alone."""
    seen: dict[str, str] = {}
    for text in sorted(texts):
        other = seen.setdefault(text.casefold(), text)
        if other != text:
            return other, text
    return None


class LabelFinder:
    """Finds the label that a text of a new table means.

    In a column of texts, a text that equals no label still means the one label that is the same
    number or the same text in another case.

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
        """The position of the label, None if the text means none of them."""
        place = self.exact.get(label_key(text, self.equality))
        if place is None:
            place = self.numbers.get(label_key(text, Equality.NUMBER))
        if place is None:
            place = self.folded.get(text.casefold())
        return place


def _unique(keys: Mapping[int, Key]) -> dict[Key, int]:
    """The position of each key that occurs once."""
    counts = Counter(keys.values())
    return {key: place for place, key in keys.items() if counts[key] == 1}


def looks_like_quantity(text: str) -> bool:
    """Whether a text has digits and no letters, as a time or a range of numbers has."""
    return any(map(str.isdigit, text)) and not any(map(str.isalpha, text))


def looks_like_date(text: str) -> bool:
    """Whether a text is a date such as 31/01/24, whose year may be 1924, 2024 or 2031."""
    return bool(SHORT_DATE.fullmatch(text))


def merged_numbers(texts: Iterable[str]) -> tuple[int, int]:
    """How many different numbers the texts hold, and how many are left in 64 bits."""
    numbers = {Decimal(text) for text in texts if NUMBER.fullmatch(text)}
    return len(numbers), len(set(map(float, numbers)))
