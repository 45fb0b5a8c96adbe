"""Which columns of a CSV file are what, and their values."""

import logging
from collections.abc import Mapping, Sequence

from ..errors import UserError, nearest
from .checks import list_option
from .column_reader import ColumnReader, ReadColumn
from .labels import (
    differ_in_case,
    looks_like_date,
    looks_like_quantity,
    merged_numbers,
    spellings,
)
from .readings import Format, maybe_grouped
from .table_file import TableFile, check_columns, name_lines
from .tables import MOST_FEATURES, Words

log = logging.getLogger(__name__)

# A text column with more levels than this is a name or free text, seldom something to learn from.
MOST_LEVELS = 50
# Cells compared when looking for numbers that 64 bits merge, and digits that they always hold.
COMPARED, DIGITS = 10_000, 15


def check_rows(table: TableFile) -> None:
    """Raise a UserError if rows have too many or too few cells."""
    if table.faulty:
        lines = [table.lines[row] for row in table.faulty]
        raise UserError(
            f"{table.path} has {len(table.header)} columns, but another number of cells on "
            f"{name_lines(lines)} (first {next(iter(table.faulty.values()))}): mend or remove "
            "these lines."
        )


def check_formats(formats: Mapping[str, Sequence[str]], table: TableFile) -> dict[str, Format]:
    """How the columns are written whose format the user gave.

    Args:
        formats: format -> names of columns.
        table: the file.

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
            f"Say which column to predict with data.target=...: {', '.join(table.header)}."
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
        UserError: a name is not a column, is given twice, or a column cannot be read as it
            should be.
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
    """Raise a UserError for columns that should hardly be taken as categories.

    One wrong cell makes texts of a column of numbers, and a column of names or free text has nearly
    as many levels as rows.
    """
    as_they_are = f"{list_option('categorical', columns)} takes the texts as they are"
    for name, column in columns.items():
        remedy = f"or leave it out with data.drop; {as_they_are}"
        check_mixture(reader, name, column, remedy)
        check_dates(reader, name, column, remedy)
    many = [name for name, column in columns.items() if count_labels(column) > MOST_LEVELS]
    if many:
        few = all(count_labels(columns[name]) <= MOST_FEATURES for name in many)
        raise UserError(
            f"More than {MOST_LEVELS} different texts are in {', '.join(many)} of "
            f"{reader.table.path}: leave these columns out with {list_option('drop', many)}"
            + (f"; {as_they_are}." if few else ", or group rare texts in the file.")
        )


def count_labels(column: ReadColumn) -> int:
    """Number of different labels in a column of texts."""
    assert isinstance(column.values, Words)
    return len(spellings(column.values.present(), column.values.equality))


def check_mixture(reader: ColumnReader, name: str, column: ReadColumn, remedy: str) -> None:
    """Raise a UserError if a column holds numbers or dates for the most part, but not always."""
    if column.most is not None:
        raise UserError(
            f"Column '{name}' of {reader.table.path} holds {column.most.describe()}, but not on "
            f"{reader.lines(column.others)} (first '{reader.cell(name, column.others[0])}'): mend "
            f"it, {remedy}."
        )


def check_dates(reader: ColumnReader, name: str, column: ReadColumn, remedy: str) -> None:
    """Raise a UserError for dates that are not clear, and would lose their order as texts."""
    assert isinstance(column.values, Words)
    texts = column.values.present()
    if texts and all(map(looks_like_date, texts)):
        raise UserError(
            f"Column '{name}' of {reader.table.path} holds dates with two digits of the year, such "
            f"as '{texts[0]}': write four, {remedy}."
        )


def check_grouping(reader: ColumnReader, columns: Mapping[str, ReadColumn]) -> None:
    """Raise a UserError if points may stand between thousands, as commas mark decimals elsewhere.

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
                f"stand between thousands in '{example}' where '{comma[0]}' has decimal commas: "
                f"say {list_option('formats.plain', [name])} or "
                f"{list_option('formats.decimal_comma', [name])}."
            )


def report(reader: ColumnReader, columns: Mapping[str, ReadColumn], chosen: Sequence[str]) -> None:
    """Log how columns were read where that is not obvious.

    Args:
        reader: of the file.
        columns: as they were read.
        chosen: names of those that the user called categories.
    """
    for name, column in columns.items():
        if isinstance(column.values, Words):
            report_texts(name, column.values, quantities=name not in chosen)
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
            report_merged(reader, name)
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


def report_texts(name: str, words: Words, quantities: bool) -> None:
    """Warn of categories that may be meant in another way; of quantities only if asked to."""
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


def report_merged(reader: ColumnReader, name: str) -> None:
    """Warn of different numbers that are the same to 64 bits."""
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
