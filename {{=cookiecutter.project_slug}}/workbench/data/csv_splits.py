"""Columns of a CSV file that say which rows belong together, or to which split a row belongs."""

import numpy as np

from ..errors import UserError
from .column_reader import ColumnReader, ReadColumn
from .labels import label_key, spellings
from .splits import PART_NAMES, Indices
from .tables import Words


def read_groups(reader: ColumnReader, name: str) -> Indices:
    """Group numbers (N,) of the rows, in the order of the values of `data.group`.

    Raises:
        UserError: a value is missing, or all are the same.
    """
    words = _read_words(reader, name, "group")
    names = spellings(words.present(), words.equality)
    if len(names) < 2:
        raise UserError(
            f"The column '{name}' of {reader.table.path} is always '{next(iter(names.values()))}', "
            "so all rows would be in one group: choose another column for data.group."
        )
    numbers = {key: number for number, key in enumerate(names)}
    found = [numbers[label_key(text, words.equality)] if text else -1 for text in words.texts]
    return np.array(found, np.int64)[words.codes]


def read_given_splits(reader: ColumnReader, name: str) -> dict[str, Indices]:
    """Positions of the rows that `data.split_column` assigns to val and test; others are train.

    Raises:
        UserError: a value is missing or names no split, or no row is left to train on.
    """
    words = _read_words(reader, name, "split_column")
    parts = [PART_NAMES.get(text.strip().lower(), "") for text in words.texts]
    assigned = np.array(parts)[words.codes]
    unknown = np.flatnonzero(assigned == "")
    if len(unknown):
        raise UserError(
            f"Column '{name}' of {reader.table.path} holds '{reader.cell(name, unknown[0])}' on "
            f"{reader.lines(unknown)}: with data.split_column each cell is train, val or test."
        )
    if "train" not in parts:
        raise UserError(
            f"Column '{name}' of {reader.table.path} assigns no row to train: there is nothing to "
            "learn from."
        )
    return {part: np.flatnonzero(assigned == part) for part in ("val", "test") if part in parts}


def _read_words(reader: ColumnReader, name: str, option: str) -> Words:
    column: ReadColumn = reader.read_as_texts(name)
    rows = column.missing_rows()
    if len(rows):
        raise UserError(
            f"Column '{name}' of {reader.table.path} is empty on {reader.lines(rows)}: "
            f"data.{option} needs a value in every row."
        )
    assert isinstance(column.values, Words)
    return column.values
