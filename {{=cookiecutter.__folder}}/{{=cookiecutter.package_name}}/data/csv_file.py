"""The user's own table."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch.utils.data import Dataset

from .batches import Batch
from .csv_columns import (
    check_rows,
    check_target,
    choose_columns,
    choose_task,
    read_classes,
    read_numbers,
    read_values,
)
from .table_arrays import TableArrays, TableDataModule
from .table_file import (
    read_table_file,
)
from .tables import Column

log = logging.getLogger(__name__)


class CSVDataModule(TableDataModule):
    """A CSV file with one row for each sample.

    A column whose cells are all numbers (or missing) is numeric, any other categorical; a column of
    numbers with a few texts in it is refused, and so is one of more than 50 texts. With
    `task: auto`, a target is a class if it holds texts, or at most 20 different whole numbers;
    otherwise it is a value to regress on. Empty cells, "NA", "N/A", "NaN", "null" and "?" are
    missing values.

    Args:
        path: the file, UTF-8, column names in the first line.
        target: the column to predict.
        numeric: names of the numeric columns; null takes every column of numbers.
        categorical: names of the categorical columns; null takes every column of texts.
        drop: names of columns to leave out.
        task: "auto", "classification" or "regression".
        delimiter: one character; null finds it out from the first line.
        batch_size: samples in a batch.
        val_fraction: share of all rows for validation.
        test_fraction: share of all rows for the test.
        split_seed: fixes the parts, whatever the run's seed.
    """

    def __init__(
        self,
        path: str,
        target: str | None,
        numeric: Sequence[str] | None = None,
        categorical: Sequence[str] | None = None,
        drop: Sequence[str] | None = None,
        task: str = "auto",
        delimiter: str | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        split_seed: int = 42,
    ) -> None:
        super().__init__()
        path = str(path)
        # Plain lists: a checkpoint cannot hold Hydra's own.
        numeric, categorical, drop = (
            None if names is None else list(names) for names in (numeric, categorical, drop)
        )
        self.save_hyperparameters(logger=False)

    def read(self) -> TableArrays:
        """All rows of the file.

        Raises:
            UserError: the file or the choice of columns cannot be used.
        """
        options = self.hparams
        table = read_table_file(Path(options["path"]).expanduser(), options["delimiter"])
        check_rows(table)
        target = check_target(table, options["target"])
        numeric, categorical = choose_columns(
            table, target, options["numeric"], options["categorical"], options["drop"] or []
        )
        columns: dict[str, Column] = {}
        for name in table.header:
            if name in numeric:
                columns[name] = read_numbers(table, name)
            elif name in categorical:
                columns[name] = table.column(name)
        if choose_task(table, target, options["task"]) == "regression":
            return TableArrays(columns, read_values(table, target), target)
        labels, class_names = read_classes(table, target)
        return TableArrays(columns, labels, target, class_names)

    def load(self) -> dict[str, Dataset[Batch]]:
        """As for every table; a file to predict on is read with the same delimiter."""
        datasets = super().load()
        self.preprocessing["delimiter"] = self.hparams["delimiter"]
        return datasets
