"""Your own table."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.data.columns import MISSING
from workbench.data.csv_choices import Choices, make_plain
from workbench.data.csv_table import read_csv
from workbench.data.tables import TableArrays, TableDataModule


class CSVDataModule(TableDataModule):
    """A CSV file with one row for each sample.

    A column whose cells are all numbers or dates (or missing) is numeric, any other categorical. A
    column of numbers that also holds a few texts is rejected, and so is one of more than 50 texts.

    With `task: auto`, a target is a class if it holds texts, or at most 20 different integers;
    otherwise it is a value to regress on. Several targets are labels that apply or not if all of
    them hold 0 and 1 (or yes and no, true and false); otherwise they are values.

    Numbers may have a decimal comma, thousands separators, a percent sign or a currency; dates
    become days since 1970-01-01. A column that can be read in two ways is rejected until `formats`
    says how it is written.

    The arguments not listed here are those of `BaseDataModule`.

    Args:
        path: the file, UTF-8, column names in the first line.
        target: the column to predict, or a list of columns.
        numeric: names of the numeric columns; null takes every column of numbers or dates.
        categorical: names of the categorical columns; null takes every column of texts.
        drop: names of columns to leave out.
        group: a column such as a patient's number. Rows with the same value stay in one split, and
            the model does not see the column.
        split_column: a column that says train, val or test. A split that it does not name is cut
            from the training rows; the model does not see the column.
        task: "auto", "classification", "multilabel" or "regression".
        delimiter: one character; null detects it from the first line.
        missing: texts that mark a missing value, in upper or lower case; an empty cell always does.
        formats: columns written as "plain" (1234.5), "decimal_point" (1,234.5), "decimal_comma"
            (1.234,5), "year_first", "day_first", "month_first", "month_name", or "text": labels
            that are only equal if their texts are.
    """

    def __init__(
        self,
        path: str,
        target: str | list[str] | None,
        numeric: Sequence[str] | None = None,
        categorical: Sequence[str] | None = None,
        drop: Sequence[str] | None = None,
        group: str | None = None,
        split_column: str | None = None,
        task: str = "auto",
        delimiter: str | None = None,
        missing: Sequence[str] | None = MISSING,
        formats: Mapping[str, Sequence[str] | None] | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        split_seed: int = 42,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        make_plain(self.hparams)

    def read(self) -> TableArrays:
        """All rows of the file. Change or add columns of the result as you like.

        Raises:
            UserError: the file or the choice of columns cannot be used.
        """
        path = Path(self.hparams["path"]).expanduser()
        return read_csv(path, Choices.among(self.hparams))
