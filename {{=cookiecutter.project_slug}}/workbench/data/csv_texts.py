"""A CSV file with a column of texts to learn from."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..checks import check_integer
from ..errors import UserError
from .csv_choices import Choices
from .csv_columns import check_rows, check_targets
from .csv_columns import report as report_columns
from .csv_table import read_targets, reader_of, rows_of
from .sequences import TextDataset
from .table_file import TableFile, check_columns, read_table_file
from .tables import TableArrays, TableDataModule
from .text_codes import TextEncoder, read_tokenizer

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

# Between the texts of several columns.
SEPARATOR = "\n"
# A tokenizer may add a few special tokens to each text.
SHORTEST = 8


@dataclass
class TextTable(TableArrays):
    """The rows of all splits, without other columns.

    Args:
        texts: one for each row.
        text_columns: the columns that they come from.
    """

    texts: list[str] = field(default_factory=list)
    text_columns: list[str] = field(default_factory=list)


def read_csv_texts(path: Path, choices: Choices) -> TextTable:
    """All rows of a CSV file.

    Raises:
        UserError: the file or the choice of columns cannot be used.
    """
    table = read_table_file(path, choices.delimiter)
    check_rows(table)
    targets, columns = choices.target or [], choices.text or []
    check_targets(table, targets)
    check_texts(table, columns, [*targets, *choices.special()])
    reader = reader_of(table, choices)
    found = read_targets(reader, targets, choices.task)
    report_columns(reader, found.columns, chosen=targets)
    return TextTable(
        {},
        file_options={"delimiter": choices.delimiter},
        texts=join_texts(table, columns),
        text_columns=list(columns),
        **rows_of(reader, found, choices),
    )


def check_texts(table: TableFile, columns: Sequence[str], others: Sequence[str]) -> None:
    """Raise a UserError unless there are columns of texts that have no other role."""
    free = [name for name in table.header if name and name not in others]
    if not columns:
        raise UserError(
            f"Set the column of the texts with data.text=...: {', '.join(free) or 'none is left'}."
        )
    check_columns(columns, table.header, table.path)
    for name in columns:
        if name in others or columns.count(name) > 1:
            raise UserError(
                f"Column '{name}' is given more than one role among data.text, data.target, "
                "data.group and data.split_column: keep one."
            )


def join_texts(table: TableFile, columns: Sequence[str]) -> list[str]:
    """The text of each row, "" if all of its cells are empty.

    A cell such as "NA" is a text, and spaces around a text are not.
    """
    cells = [stripped(table.column(name)) for name in columns]
    return [SEPARATOR.join(filter(None, row)) for row in zip(*cells, strict=True)]


def stripped(cells: "pl.Series") -> list[str]:
    """The cells without spaces around them."""
    texts: list[str] = cells.fill_null("").str.strip_chars().to_list()
    return texts


class TextTableDataModule(TableDataModule):
    """Texts of a table, encoded once. A subclass defines `read`.

    It has the arguments `tokenizer`, a folder or None for bytes, and `max_length`.
    """

    def read(self) -> TextTable:
        """All rows."""
        raise NotImplementedError

    def check_arguments(self) -> None:
        """Raise a UserError for an argument that cannot be used."""
        super().check_arguments()
        check_integer("data.max_length", self.hparams["max_length"], SHORTEST)

    def load(self) -> dict[str, Dataset[Any]]:
        """Split the rows and encode their texts."""
        table = self.read()
        splits = self.split_rows(table)
        is_empty = np.array([not text for text in table.texts])
        check_empty(table, is_empty)
        folder, length = self.hparams["tokenizer"], self.hparams["max_length"]
        encoder = TextEncoder() if folder is None else read_tokenizer(Path(folder).expanduser())
        sequences = encoder.encode(table.texts, length)
        missing = bool(is_empty[splits["train"]].any())
        self.preprocessing = {
            "kind": "text",
            "columns": [
                {"name": n, "type": "text", "missing": missing} for n in table.text_columns
            ],
            "encoder": encoder.save(),
            "max_length": length,
            **table.file_options,
        }
        self.input_shape = (length, encoder.vocab_size)
        y = self.read_target(table, splits["train"])
        return {name: TextDataset(sequences[rows], y[rows]) for name, rows in splits.items()}


def check_empty(table: TextTable, is_empty: NDArray[np.bool_]) -> None:
    """Warn of empty texts.

    Raises:
        UserError: all are empty.
    """
    if is_empty.all():
        raise UserError(
            f"All texts are empty ({', '.join(table.text_columns)}): choose another column with "
            "data.text=..."
        )
    if is_empty.any():
        log.warning("%d of %d texts are empty", is_empty.sum(), len(is_empty))
