"""A CSV file as a table: its features, and its target column or columns."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice
from ..errors import UserError
from .cells import Key, Reading, differ_in_case
from .columns import ColumnReader, ReadColumn, missing_markers
from .csv_choices import Choices
from .csv_columns import (
    check_dates,
    check_formats,
    check_grouping,
    check_mixture,
    check_rows,
    check_targets,
    count_labels,
    read_features,
    read_given_splits,
    read_groups,
    report,
)
from .table_file import TableFile, list_option, read_table_file
from .tables import Numbers, TableArrays, Words

log = logging.getLogger(__name__)

# A number with more values than this is a quantity; with fewer, integers name classes.
MOST_CLASSES = 20
TASKS = ("auto", "classification", "multilabel", "regression")
# How columns say that a label does not apply, and that it does.
LABELS: tuple[tuple[Key, Key], ...] = (
    (Decimal(0), Decimal(1)),
    ("0", "1"),
    ("false", "true"),
    ("no", "yes"),
    ("f", "t"),
    ("n", "y"),
)


def read_csv(path: Path, choices: Choices) -> TableArrays:
    """All rows of a CSV file.

    Raises:
        UserError: the file or the choice of columns cannot be used.
    """
    table = read_table_file(path, choices.delimiter)
    check_rows(table)
    targets = choices.target or []
    check_targets(table, targets)
    reader = reader_of(table, choices)
    found = read_targets(reader, targets, choices.task)
    dropped = list(dict.fromkeys([*(choices.drop or []), *choices.special()]))
    features = read_features(reader, targets, choices.numeric, choices.categorical, dropped)
    columns = features | dict(found.columns)
    check_grouping(reader, columns)
    report(reader, columns, chosen=[*targets, *(choices.categorical or [])])
    return TableArrays(
        {name: column.values for name, column in features.items()},
        readings={name: each.reading for name, each in features.items() if each.reading},
        file_options={"delimiter": choices.delimiter, "missing": choices.missing},
        **rows_of(reader, found, choices),
    )


def reader_of(table: TableFile, choices: Choices) -> ColumnReader:
    """Reads the columns of a file in the chosen formats."""
    formats = check_formats(choices.formats, table)
    return ColumnReader(table, missing_markers(choices.missing), formats)


def rows_of(reader: ColumnReader, found: "Target", choices: Choices) -> dict[str, Any]:
    """The arguments of `TableArrays` that do not depend on the features."""
    group, split_column, targets = choices.group, choices.split_column, choices.target or []
    return {
        "target": found.values,
        "target_name": targets[0] if found.values.ndim == 1 else list(targets),
        "class_names": found.class_names,
        "groups": None if group is None else read_groups(reader, group),
        "given": {} if split_column is None else read_given_splits(reader, split_column),
    }


@dataclass
class Target:
    """The value or values to predict.

    Args:
        columns: how its columns were read.
        values: class numbers or values (N,); of several columns labels 0 and 1, or values (N, T).
        class_names: in the order of the class numbers or labels; None for a regression.
    """

    columns: Mapping[str, ReadColumn]
    values: NDArray[np.int64] | Numbers
    class_names: list[str] | None = None


def read_targets(reader: ColumnReader, names: Sequence[str], task: str) -> Target:
    """The target columns for the task, which "auto" infers by the rule in `CSVDataModule`.

    Raises:
        UserError: a value is missing, a column is constant, or the columns do not fit the task.
    """
    check_choice("data.task", task, TASKS)
    if len(names) == 1 and task != "multilabel":
        return _read_target(reader, names[0], task)
    if task != "regression":
        columns = {name: reader.read_as_texts(name) for name in names}
        labels = {name: _find_labels(column) for name, column in columns.items()}
        if task != "auto" or all(labels.values()):
            return _read_labels(reader, columns, labels)
        for name in names:
            _check_number(reader, name)
    found = [_read_target(reader, name, "regression") for name in names]
    values = np.stack([target.values.astype(np.float64) for target in found], axis=1)
    return Target({name: column for t in found for name, column in t.columns.items()}, values)


def _check_number(reader: ColumnReader, name: str) -> None:
    """Raise a UserError if one of several targets holds texts."""
    column = reader.read(name)
    if column.reading is None and column.most is None:
        raise UserError(
            f"Several targets must all be numbers, or all labels of 0 and 1, but '{name}' of "
            f"{reader.table.path} holds texts such as '{column.words.present()[0]}': predict it "
            "alone."
        )


def _find_labels(column: ReadColumn) -> tuple[Key, Key] | None:
    """How a column says no and yes; None if it says something else."""
    keys = column.labels().keys()
    return next((pair for pair in LABELS if keys <= set(pair)), None)


def _read_labels(
    reader: ColumnReader,
    columns: Mapping[str, ReadColumn],
    labels: Mapping[str, tuple[Key, Key] | None],
) -> Target:
    """Several labels, each of which applies to a row or not."""
    values = []
    for name, column in columns.items():
        _check_complete(reader, name, column)
        if labels[name] is None:
            raise UserError(
                f"The target '{name}' of {reader.table.path} is not a label: each of several "
                "targets holds 0 and 1, true and false, or yes and no; several columns of numbers "
                "are predicted with data.task=regression."
            )
        # Both of the pair occur, and their order is that of the classes.
        values.append(_read_classes(reader, name, column).values.astype(np.int64))
    return Target(columns, np.stack(values, axis=1), list(columns))


def _read_target(reader: ColumnReader, name: str, task: str) -> Target:
    """One target column."""
    column = reader.read_as_texts(name) if task == "classification" else reader.read(name)
    _check_complete(reader, name, column)
    if task == "auto" and column.reading is None:
        remedy = "or set data.task=classification"
        check_mixture(reader, name, column, remedy)
        check_dates(reader, name, column, remedy)
    if task == "auto" and column.reading == Reading() and _few_integers(column.values):
        labels = reader.read_as_texts(name)
        if count_labels(labels) <= MOST_CLASSES:
            column = labels
    if column.reading is None and task == "regression":
        column = reader.read_as_numbers(name)
    if column.reading is None:
        return _read_classes(reader, name, column)
    return _read_values(reader, name, column)


def _check_complete(reader: ColumnReader, name: str, column: ReadColumn) -> None:
    """Raise a UserError if a target is missing."""
    rows = column.missing_rows()
    if len(rows):
        marked = [text for text in column.missing if text]
        hint = f"; if '{marked[0]}' is a value, remove it from data.missing" if marked else ""
        raise UserError(
            f"The target '{name}' is missing on {reader.lines(rows)} of {reader.table.path}: fill "
            f"it in or remove these lines{hint}."
        )


def _few_integers(values: Numbers | Words) -> bool:
    """Whether values may name classes."""
    distinct = np.unique(np.asarray(values))
    return len(distinct) <= MOST_CLASSES and bool((distinct == np.floor(distinct)).all())


def _read_classes(reader: ColumnReader, name: str, column: ReadColumn) -> Target:
    """Class numbers and class names; numbers are sorted as numbers."""
    words, names = column.words, column.labels()
    if len(names) == 1:
        raise UserError(_always(reader, name, words.present()))
    if pair := differ_in_case(names.values()):
        log.warning("The target '%s' has '%s' and '%s', which are different classes", name, *pair)
    return Target({name: column}, words.numbers(names), list(names.values()))


def _read_values(reader: ColumnReader, name: str, column: ReadColumn) -> Target:
    """The values of a regression."""
    values, reading = column.values, column.reading
    assert isinstance(values, np.ndarray)
    assert reading is not None
    if not reading.format.is_number:
        raise UserError(
            f"The target '{name}' of {reader.table.path} holds dates: replace them by numbers, "
            "such as the days since the first one, or set data.task=classification."
        )
    if values.min() == values.max():
        labels = reader.read_as_texts(name)
        texts = labels.words.present()
        if count_labels(labels) == 1 or reading != Reading():
            raise UserError(_always(reader, name, texts))
        raise UserError(
            f"The target '{name}' of {reader.table.path} holds numbers that differ by less than "
            f"64-bit numbers can represent ('{texts[0]}' and '{texts[1]}'): subtract a common "
            "offset."
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
