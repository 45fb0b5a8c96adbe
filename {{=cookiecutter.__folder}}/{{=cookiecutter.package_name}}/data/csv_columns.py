"""Which columns of a CSV file are what, and their values."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .table_file import TableFile, check_columns, is_number, name_lines, parse_number
from .tables import Numbers

log = logging.getLogger(__name__)

# A number with more values than this is a quantity; with fewer, whole numbers name classes.
MOST_CLASSES = 20
# A text column with more levels than this is a name or free text, seldom something to learn from.
MOST_LEVELS = 50


def check_rows(table: TableFile) -> None:
    """Raise a UserError if rows have too many or too few cells."""
    faulty = table.faulty_rows()
    if faulty:
        raise UserError(
            f"{table.path} has {len(table.header)} columns, but another number of cells on "
            f"{name_lines([table.lines[row] for row in faulty])} (first "
            f"{len(table.rows[faulty[0]])}): mend or remove these lines."
        )


def check_target(table: TableFile, target: str | None) -> str:
    """The name of the target's column, which exists and has a value in every row."""
    if target is None:
        raise UserError(
            f"Say which column to predict with data.target=...: {', '.join(table.header)}."
        )
    check_columns([target], table.header, table.path)
    empty = [line for line, cell in zip(table.lines, table.column(target), strict=True) if not cell]
    if empty:
        raise UserError(
            f"The target '{target}' is missing on {name_lines(empty)} of {table.path}: fill it in "
            "or remove these lines."
        )
    if len(set(table.column(target))) == 1:
        raise UserError(
            f"The target '{target}' of {table.path} is always '{table.column(target)[0]}': there "
            "is nothing to learn."
        )
    return target


def choose_columns(
    table: TableFile,
    target: str,
    numeric: Sequence[str] | None,
    categorical: Sequence[str] | None,
    drop: Sequence[str],
) -> tuple[list[str], list[str]]:
    """Names of the numeric and of the categorical columns, the missing lists filled in.

    Raises:
        UserError: a name is no column, stands in two places, or a column found to be categorical
            has too many levels.
    """
    named = [*(numeric or []), *(categorical or []), *drop, target]
    check_columns(named, table.header, table.path)
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise UserError(
            f"Column '{twice[0]}' is given more than one role among data.target, data.numeric, "
            "data.categorical and data.drop: keep one."
        )
    free = [name for name in table.header if name and name not in named]
    numbers = [name for name in free if all(is_number(cell) for cell in table.column(name))]
    texts = [name for name in free if name not in numbers]
    if categorical is None:
        check_texts(table, texts)
    chosen_numbers = numbers if numeric is None else list(numeric)
    chosen_texts = texts if categorical is None else list(categorical)
    seen = {*chosen_numbers, *chosen_texts}
    if not seen:
        raise UserError(f"No column of {table.path} is left to predict '{target}' from.")
    left_out = [name or "(no name)" for name in table.header if name not in {*seen, target}]
    if left_out:
        log.warning("Columns that the model does not see: %s", ", ".join(left_out))
    return chosen_numbers, chosen_texts


def check_texts(table: TableFile, names: Sequence[str]) -> None:
    """Raise a UserError for columns that should hardly be taken as categories.

    One wrong cell makes texts of a column of numbers, and a column of names or free text has nearly
    as many levels as rows.
    """
    as_they_are = f"data.categorical=[{','.join(names)}] takes the texts as they are"
    for name in names:
        check_mixture(table, name, f"or leave the column out with data.drop; {as_they_are}")
    many = [name for name in names if len(set(table.column(name))) > MOST_LEVELS]
    if many:
        raise UserError(
            f"More than {MOST_LEVELS} different texts are in {', '.join(many)} of {table.path}: "
            f"leave these columns out with data.drop=[{','.join(many)}]; {as_they_are}."
        )


def check_mixture(table: TableFile, name: str, remedy: str) -> None:
    """Raise a UserError if a column holds numbers for the most part, but not everywhere."""
    cells = [
        (line, cell) for line, cell in zip(table.lines, table.column(name), strict=True) if cell
    ]
    others = [(line, cell) for line, cell in cells if not is_number(cell)]
    if 0 < len(others) < len(cells) / 2:
        lines = name_lines([line for line, _ in others])
        raise UserError(
            f"Column '{name}' of {table.path} holds numbers, but not on {lines} "
            f"(first '{others[0][1]}'): mend it, {remedy}."
        )


def choose_task(table: TableFile, target: str, task: str) -> str:
    """The task, found by the rule in `CSVDataModule` if it is "auto"."""
    if task in ("classification", "regression"):
        return task
    if task != "auto":
        raise UserError(
            f"data.task must be 'auto', 'classification' or 'regression', not {task!r}."
        )
    check_mixture(table, target, "or say data.task=classification")
    if not all(is_number(cell) for cell in table.column(target)):
        return "classification"
    values = set(read_values(table, target).tolist())
    whole = all(value.is_integer() for value in values)
    return "classification" if whole and len(values) <= MOST_CLASSES else "regression"


def read_values(table: TableFile, target: str) -> Numbers:
    """The values of a regression's target."""
    values = read_numbers(table, target)
    if values.min() == values.max():
        raise UserError(f"The target '{target}' is always {values[0]}: there is nothing to learn.")
    return values


def read_classes(table: TableFile, target: str) -> tuple[NDArray[np.int64], list[str]]:
    """Class numbers and class names of the target; numbers are sorted as numbers."""
    cells = table.column(target)
    names = sorted(set(cells))
    if all(is_number(name) for name in names):
        names.sort(key=float)
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[cell] for cell in cells]), names


def read_numbers(table: TableFile, name: str) -> Numbers:
    """A column of numbers, NaN where a value is missing.

    Raises:
        UserError: a cell holds something else, or infinity.
    """
    numbers, wrong = [], []
    for line, cell in zip(table.lines, table.column(name), strict=True):
        try:
            numbers.append(parse_number(cell))
        except ValueError:
            wrong.append((line, cell))
    if wrong:
        raise UserError(
            f"Column '{name}' of {table.path} holds something else than a finite number on "
            f"{name_lines([line for line, _ in wrong])} (first '{wrong[0][1]}'): mend these cells."
        )
    return np.array(numbers)
