"""The roles of the columns of a CSV file: features, groups, splits; and what is odd about them."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import UserError, nearest
from .cells import (
    Format,
    differ_in_case,
    looks_like_date,
    looks_like_quantity,
    maybe_grouped,
    merged_numbers,
    spellings,
)
from .columns import ColumnReader, ReadColumn
from .splits import SPLIT_NAMES, Indices
from .table_file import TableFile, check_columns, list_option, name_lines, name_option
from .tables import MOST_FEATURES, Words

log = logging.getLogger(__name__)

# A text column with more levels than this holds names or free text, not categories.
MOST_LEVELS = 50
# Texts with more words than this on average are sentences, not names.
WORDS_OF_NAMES = 4
# Cells compared when looking for numbers that 64 bits merge, and the digits that 64 bits preserve.
COMPARED, DIGITS = 10_000, 15


def check_rows(table: TableFile) -> None:
    """Raise a UserError if rows have too many or too few cells."""
    if table.faulty:
        lines = [table.lines[row] for row in table.faulty]
        raise UserError(
            f"{table.path} has {len(table.header)} columns, but another number of cells on "
            f"{name_lines(lines)} (first {next(iter(table.faulty.values()))}): correct or remove "
            "these lines."
        )


def check_formats(formats: Mapping[str, Sequence[str]], table: TableFile) -> dict[str, Format]:
    """The formats set by the user: from format -> names of columns, to column -> format.

    Raises:
        UserError: there is no such format or column, or a column has two formats.
    """
    chosen: dict[str, Format] = {}
    for each, names in formats.items():
        if each not in list(Format):
            raise UserError(f"data.formats has no {each!r}; {nearest(each, list(Format))}")
        check_columns(names, table.header, table.path)
        for name in names:
            if name in chosen:
                raise UserError(
                    f"Column '{name}' is both in data.formats.{chosen[name]} and in "
                    f"data.formats.{each}: keep one."
                )
            chosen[name] = Format(each)
    return chosen


def check_targets(table: TableFile, targets: Sequence[str]) -> None:
    """Raise a UserError unless there are target columns, each named once."""
    if not targets:
        raise UserError(
            f"Set the column to predict with data.target=...: {', '.join(table.header)}."
        )
    check_columns(targets, table.header, table.path)


def read_features(
    reader: ColumnReader,
    targets: Sequence[str],
    numeric: Sequence[str] | None,
    categorical: Sequence[str] | None,
    drop: Sequence[str],
) -> dict[str, ReadColumn]:
    """The columns that the model sees, in the order of the file.

    Raises:
        UserError: a name is not a column or is given twice, or a column cannot be read as set.
    """
    table = reader.table
    named = [*(numeric or []), *(categorical or []), *drop, *targets]
    check_columns(named, table.header, table.path)
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise UserError(
            f"Column '{twice[0]}' is given more than one role among data.target, data.numeric, "
            "data.categorical and data.drop: keep one."
        )
    columns = {name: reader.read_as_numbers(name) for name in numeric or []}
    columns |= {name: reader.read_as_texts(name) for name in categorical or []}
    if numeric is None or categorical is None:
        free = [name for name in table.header if name and name not in named]
        found = {name: reader.read(name) for name in free}
        texts = [name for name, column in found.items() if column.reading is None]
        if categorical is None:
            check_texts(reader, {name: found[name] for name in texts})
        chosen = [name for name in free if (numeric if name not in texts else categorical) is None]
        columns |= {name: found[name] for name in chosen}
    if not columns:
        raise UserError(
            f"No column of {table.path} is left to predict '{', '.join(targets)}' from."
        )
    left_out = [name or "(no name)" for name in table.header if name not in {*columns, *targets}]
    if left_out:
        log.warning("Columns that the model does not see: %s", ", ".join(left_out))
    return {name: columns[name] for name in table.header if name in columns}


def check_texts(reader: ColumnReader, columns: Mapping[str, ReadColumn]) -> None:
    """Raise a UserError for columns that are unlikely to be meant as categories.

    A single wrong cell turns a column of numbers into texts, and a column of names or free text has
    almost as many levels as rows.
    """
    as_they_are = f"{list_option('categorical', columns)} takes the texts as they are"
    for name, column in columns.items():
        remedy = f"or leave it out with data.drop; {as_they_are}"
        check_mixture(reader, name, column, remedy)
        check_dates(reader, name, column, remedy)
    many = [name for name, column in columns.items() if count_labels(column) > MOST_LEVELS]
    check_free_texts(reader, {name: columns[name] for name in many}, many)
    if many:
        few = all(count_labels(columns[name]) <= MOST_FEATURES for name in many)
        raise UserError(
            f"More than {MOST_LEVELS} different texts are in {', '.join(many)} of "
            f"{reader.table.path}: leave these columns out with {list_option('drop', many)}"
            + (f"; {as_they_are}." if few else ", or group rare texts in the file.")
        )


def check_free_texts(
    reader: ColumnReader, columns: Mapping[str, ReadColumn], drop: Sequence[str]
) -> None:
    """Raise a UserError for a column of sentences, which another experiment learns from."""
    for name, column in columns.items():
        texts = column.words.present()
        words = sum(len(text.split()) for text in texts) / len(texts)
        if words > WORDS_OF_NAMES:
            raise UserError(
                f"Column '{name}' of {reader.table.path} holds {len(texts)} different texts of "
                f"{words:.0f} words on average: experiment=text_csv learns from such a column with "
                f"{name_option('text', name)}; to learn from the other columns, leave it out with "
                f"{list_option('drop', drop)}."
            )


def count_labels(column: ReadColumn) -> int:
    """Number of different labels in a column of texts."""
    return len(column.labels())


def check_mixture(reader: ColumnReader, name: str, column: ReadColumn, remedy: str) -> None:
    """Raise a UserError if a column holds mostly, but not only, numbers or dates."""
    if column.most is not None:
        raise UserError(
            f"Column '{name}' of {reader.table.path} holds {column.most.describe()}, but not on "
            f"{reader.lines(column.others)} (first '{reader.cell(name, column.others[0])}'): "
            f"correct it, {remedy}."
        )


def check_dates(reader: ColumnReader, name: str, column: ReadColumn, remedy: str) -> None:
    """Raise a UserError for ambiguous dates, which would lose their order as texts."""
    texts = column.words.present()
    if texts and all(map(looks_like_date, texts)):
        raise UserError(
            f"Column '{name}' of {reader.table.path} holds dates with two-digit years, such as "
            f"'{texts[0]}': write four digits, {remedy}."
        )


def check_grouping(reader: ColumnReader, columns: Mapping[str, ReadColumn]) -> None:
    """Raise a UserError if points may separate thousands, because commas mark decimals elsewhere.

    "1.234" alone is a decimal number. In a file with decimal commas, it is more likely 1234.
    """
    formats = {name: column.reading.format for name, column in columns.items() if column.reading}
    comma = [name for name, each in formats.items() if each is Format.DECIMAL_COMMA]
    for name, each in formats.items():
        if not comma or each is not Format.PLAIN or name in reader.formats:
            continue
        if example := maybe_grouped(reader.table.column(name)):
            raise UserError(
                f"Column '{name}' of {reader.table.path} can be read in two ways, as a point may "
                f"separate thousands in '{example}' where '{comma[0]}' has decimal commas: set "
                f"{list_option('formats.plain', [name])} or "
                f"{list_option('formats.decimal_comma', [name])}."
            )


def report(reader: ColumnReader, columns: Mapping[str, ReadColumn], chosen: Sequence[str]) -> None:
    """Log how columns were read where that is not obvious.

    Args:
        reader: of the file.
        columns: as they were read.
        chosen: names of those that the user declared as categories.
    """
    for name, column in columns.items():
        if isinstance(column.values, Words):
            _report_texts(name, column.values, quantities=name not in chosen)
        elif column.reading is not None and column.example:
            unit = "" if column.reading.format.is_number else ", in days since 1970-01-01"
            log.info(
                "Column '%s' is read as %s%s: '%s' is %s",
                name,
                column.reading.describe(),
                unit,
                column.example,
                column.reading.meaning(column.example),
            )
        else:
            _report_merged(reader, name)
    missing = [
        (count, f"'{text}'" if text else "empty", name)
        for name, column in columns.items()
        for text, count in column.missing.items()
    ]
    if missing:
        texts = any(text for column in columns.values() for text in column.missing)
        log.log(
            logging.WARNING if texts else logging.INFO,
            "Cells read as missing values: %s%s",
            ", ".join(f"{count} {text} in '{name}'" for count, text, name in missing),
            "; data.missing lists the texts that are" if texts else "",
        )


def _report_texts(name: str, words: Words, quantities: bool) -> None:
    """Warn of categories that may be meant differently; of quantities only if requested."""
    texts = words.present()
    if pair := differ_in_case(spellings(texts, words.equality).values()):
        log.warning("Column '%s' has '%s' and '%s', which are different categories", name, *pair)
    found = [text for text in texts if looks_like_quantity(text)]
    if quantities and len(found) > len(texts) / 2:
        log.warning(
            "Column '%s' is read as %d categories without an order, such as '%s'",
            name,
            len(texts),
            found[0],
        )


def _report_merged(reader: ColumnReader, name: str) -> None:
    """Warn of different numbers that are equal as 64-bit numbers."""
    cells = reader.table.column(name).head(COMPARED)
    numbers, merged = merged_numbers(
        cells.filter(cells.str.len_bytes() > DIGITS).str.strip_chars().unique()
    )
    if merged < numbers:
        log.warning(
            "Column '%s': %d different numbers become %d, because a 64-bit number holds 16 digits. "
            "Leave it out with %s if it is an identifier, or subtract a common offset.",
            name,
            numbers,
            merged,
            list_option("drop", [name]),
        )


def read_groups(reader: ColumnReader, name: str) -> Indices:
    """Group numbers (N,) of the rows, in the order of the values of `data.group`.

    Raises:
        UserError: a value is missing, or all are the same.
    """
    column = _read_complete(reader, name, "group")
    labels = column.labels()
    if len(labels) < 2:
        raise UserError(
            f"The column '{name}' of {reader.table.path} is always '{next(iter(labels.values()))}',"
            " so all rows would be in one group: choose another column for data.group."
        )
    return column.words.numbers(labels)


def read_given_splits(reader: ColumnReader, name: str) -> dict[str, Indices]:
    """Positions of the rows that `data.split_column` assigns to val and test; others are train.

    Raises:
        UserError: a value is missing or names no split, or no row is left to train on.
    """
    words = _read_complete(reader, name, "split_column").words
    splits = [SPLIT_NAMES.get(text.strip().lower(), "") for text in words.texts]
    assigned = np.array(splits)[words.codes]
    unknown = np.flatnonzero(assigned == "")
    if len(unknown):
        raise UserError(
            f"Column '{name}' of {reader.table.path} holds '{reader.cell(name, unknown[0])}' on "
            f"{reader.lines(unknown)}: with data.split_column each cell is train, val or test."
        )
    if "train" not in splits:
        raise UserError(
            f"Column '{name}' of {reader.table.path} assigns no row to train: there is nothing to "
            "learn from."
        )
    return {
        split: np.flatnonzero(assigned == split) for split in ("val", "test") if split in splits
    }


def _read_complete(reader: ColumnReader, name: str, option: str) -> ReadColumn:
    """A column of texts; raise a UserError if a value is missing."""
    column = reader.read_as_texts(name)
    rows = column.missing_rows()
    if len(rows):
        raise UserError(
            f"Column '{name}' of {reader.table.path} is empty on {reader.lines(rows)}: "
            f"data.{option} requires a value in every row."
        )
    return column
