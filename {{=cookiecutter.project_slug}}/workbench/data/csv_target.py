"""The target column of a CSV file, or several: classes, values or labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .checks import list_option
from .column_reader import ColumnReader, ReadColumn
from .csv_columns import check_dates, check_mixture
from .labels import Key, differ_in_case, label_key, spellings
from .readings import Reading
from .tables import Numbers, Words

log = logging.getLogger(__name__)

# A number with more values than this is a quantity; with fewer, integers name classes.
MOST_CLASSES = 20
TASKS = ("auto", "classification", "multilabel", "regression")
# What says that a label does not apply, and that it does.
LABELS: tuple[tuple[Key, Key], ...] = (
    (Decimal(0), Decimal(1)),
    ("0", "1"),
    ("false", "true"),
    ("no", "yes"),
    ("f", "t"),
    ("n", "y"),
)


@dataclass
class Target:
    """What is to be predicted.

    Args:
        columns: how its columns were read.
        values: class numbers or values (N,); of several columns labels 0 and 1, or values (N, T).
        class_names: in the order of the class numbers or labels; None for a regression.
    """

    columns: Mapping[str, ReadColumn]
    values: NDArray[np.int64] | Numbers
    class_names: list[str] | None = None


def read_targets(reader: ColumnReader, names: Sequence[str], task: str) -> Target:
    """The target columns for the task, which "auto" finds by the rule in `CSVDataModule`.

    Raises:
        UserError: a value is missing, or a column always has the same, or they do not fit the task.
    """
    if task not in TASKS:
        raise UserError(f"data.task must be one of {', '.join(TASKS)}, not {task!r}.")
    if len(names) == 1 and task != "multilabel":
        return read_target(reader, names[0], task)
    if task != "regression":
        columns = {name: reader.read_as_texts(name) for name in names}
        labels = {name: find_labels(column) for name, column in columns.items()}
        if task != "auto" or all(labels.values()):
            return read_labels(reader, columns, labels)
        for name in names:
            check_number(reader, name)
    found = [read_target(reader, name, "regression") for name in names]
    values = np.stack([target.values for target in found], axis=1)
    return Target({name: column for t in found for name, column in t.columns.items()}, values)


def check_number(reader: ColumnReader, name: str) -> None:
    """Raise a UserError if one of several targets holds texts."""
    column = reader.read(name)
    if column.reading is None and column.most is None:
        assert isinstance(column.values, Words)
        raise UserError(
            f"Several targets are all numbers, or all labels of 0 and 1, but '{name}' of "
            f"{reader.table.path} holds texts such as '{column.values.present()[0]}': predict it "
            "alone."
        )


def find_labels(column: ReadColumn) -> tuple[Key, Key] | None:
    """How a column says no and yes; None if it says something else."""
    assert isinstance(column.values, Words)
    keys = spellings(column.values.present(), column.values.equality).keys()
    return next((pair for pair in LABELS if keys <= set(pair)), None)


def read_labels(
    reader: ColumnReader,
    columns: Mapping[str, ReadColumn],
    labels: Mapping[str, tuple[Key, Key] | None],
) -> Target:
    """Several labels, each of which applies to a row or not."""
    values = []
    for name, column in columns.items():
        check_complete(reader, name, column)
        if labels[name] is None:
            raise UserError(
                f"The target '{name}' of {reader.table.path} is no label: each of several targets "
                "holds 0 and 1, true and false, or yes and no; several columns of numbers are "
                "predicted with data.task=regression."
            )
        # Both of the pair occur, and their order is that of the classes.
        values.append(read_classes(reader, name, column).values)
    return Target(columns, np.stack(values, axis=1), list(columns))


def read_target(reader: ColumnReader, name: str, task: str) -> Target:
    """One target column."""
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
    values = np.array(found, dtype=np.int64)[words.codes]
    return Target({name: column}, values, list(names.values()))


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
    return Target({name: column}, values)


def _always(reader: ColumnReader, name: str, texts: list[str]) -> str:
    first, *others = sorted(texts, key=lambda text: (len(text), text))
    start = f"The target '{name}' of {reader.table.path} is always"
    if not others:
        return f"{start} '{first}': there is nothing to learn."
    return (
        f"{start} {first}, written as '{first}' and '{others[0]}', so there is nothing to learn; "
        f"{list_option('formats.text', [name])} compares them as texts."
    )
