"""The target column of a CSV file: classes or values."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .checks import list_option
from .column_reader import ColumnReader, ReadColumn
from .csv_columns import check_dates, check_mixture
from .labels import differ_in_case, label_key, spellings
from .readings import Reading
from .tables import Numbers, Words

log = logging.getLogger(__name__)

# A number with more values than this is a quantity; with fewer, integers name classes.
MOST_CLASSES = 20


@dataclass
class Target:
    """What is to be predicted.

    Args:
        column: how it was read.
        values: class numbers or values (N,).
        class_names: in the order of the class numbers; None for a regression.
    """

    column: ReadColumn
    values: NDArray[np.int64] | Numbers
    class_names: list[str] | None = None


def read_target(reader: ColumnReader, name: str, task: str) -> Target:
    """The target for the task, which "auto" finds by the rule in `CSVDataModule`.

    Raises:
        UserError: a value is missing, or all are the same, or they do not fit the task.
    """
    if task not in ("auto", "classification", "regression"):
        raise UserError(
            f"data.task must be 'auto', 'classification' or 'regression', not {task!r}."
        )
    column = reader.read_as_texts(name) if task == "classification" else reader.read(name)
    check_complete(reader, name, column)
    if task == "auto" and column.reading is None:
        check_mixture(reader, name, column, "or say data.task=classification")
        check_dates(reader, name, column, "or say data.task=classification")
    if task == "auto" and column.reading == Reading() and few_integers(column.values):
        labels = reader.read_as_texts(name)
        if count_classes(labels) <= MOST_CLASSES:
            column = labels
    if column.reading is None and task == "regression":
        column = reader.read_as_numbers(name)
    if column.reading is None:
        return read_classes(reader, name, column)
    return read_values(reader, name, column)


def check_complete(reader: ColumnReader, name: str, column: ReadColumn) -> None:
    """Raise a UserError if a target is missing."""
    rows = column.missing_rows()
    if len(rows):
        marked = [text for text in column.missing if text]
        hint = f"; if '{marked[0]}' is a value, remove it from data.missing" if marked else ""
        raise UserError(
            f"The target '{name}' is missing on {reader.lines(rows)} of {reader.table.path}: fill "
            f"it in or remove these lines{hint}."
        )


def few_integers(values: Numbers | Words) -> bool:
    """Whether values may name classes."""
    distinct = np.unique(np.asarray(values))
    return len(distinct) <= MOST_CLASSES and bool((distinct == np.floor(distinct)).all())


def count_classes(column: ReadColumn) -> int:
    """Number of different labels."""
    assert isinstance(column.values, Words)
    return len(spellings(column.values.present(), column.values.equality))


def read_classes(reader: ColumnReader, name: str, column: ReadColumn) -> Target:
    """Class numbers and class names; numbers are sorted as numbers."""
    words = column.values
    assert isinstance(words, Words)
    texts = words.present()
    names = spellings(texts, words.equality)
    if len(names) == 1:
        raise UserError(_always(reader, name, texts))
    if pair := differ_in_case(names.values()):
        log.warning("The target '%s' has '%s' and '%s', which are different classes", name, *pair)
    numbers = {key: number for number, key in enumerate(names)}
    found = [numbers[label_key(text, words.equality)] if text else -1 for text in words.texts]
    return Target(column, np.array(found, dtype=np.int64)[words.codes], list(names.values()))


def read_values(reader: ColumnReader, name: str, column: ReadColumn) -> Target:
    """The values of a regression."""
    values, reading = column.values, column.reading
    assert isinstance(values, np.ndarray)
    assert reading is not None
    if not reading.format.is_number:
        raise UserError(
            f"The target '{name}' of {reader.table.path} holds dates: replace them by numbers, "
            "such as the days since the first one, or say data.task=classification."
        )
    if values.min() == values.max():
        labels = reader.read_as_texts(name)
        assert isinstance(labels.values, Words)
        texts = labels.values.present()
        if count_classes(labels) == 1 or reading != Reading():
            raise UserError(_always(reader, name, texts))
        raise UserError(
            f"The target '{name}' of {reader.table.path} holds numbers that differ by less than "
            f"64-bit numbers can hold ('{texts[0]}' and '{texts[1]}'): subtract a common offset."
        )
    return Target(column, values)


def _always(reader: ColumnReader, name: str, texts: list[str]) -> str:
    first, *others = sorted(texts, key=lambda text: (len(text), text))
    start = f"The target '{name}' of {reader.table.path} is always"
    if not others:
        return f"{start} '{first}': there is nothing to learn."
    return (
        f"{start} {first}, written as '{first}' and '{others[0]}', so there is nothing to learn; "
        f"{list_option('formats.text', [name])} compares them as texts."
    )
