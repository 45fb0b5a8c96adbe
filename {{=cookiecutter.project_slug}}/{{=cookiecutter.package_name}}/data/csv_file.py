"""The user's own table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from workbench.data.batches import Batch
from workbench.data.cells import MISSING, missing_markers
from workbench.data.column_reader import ColumnReader
from workbench.data.csv_columns import (
    check_formats,
    check_grouping,
    check_rows,
    check_targets,
    read_features,
    report,
)
from workbench.data.csv_splits import read_given_splits, read_groups
from workbench.data.csv_target import read_targets
from workbench.data.table_arrays import TableArrays, TableDataModule
from workbench.data.table_file import read_table_file


class CSVDataModule(TableDataModule):
    """A CSV file with one row for each sample.

    A column whose cells are all numbers or dates (or missing) is numeric, any other categorical; a
    column of numbers with a few texts in it is rejected, and so is one of more than 50 texts. With
    `task: auto`, a target is a class if it holds texts, or at most 20 different integers; otherwise
    it is a value to regress on. Several targets are labels that apply or not if all of them hold 0
    and 1 (or yes and no, true and false); otherwise they are values.

    Numbers may have a decimal comma, separators between thousands, a percent sign or a currency;
    dates become days since 1970-01-01. A column that can be read in two ways is rejected until
    `formats` says how it is written.

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
        delimiter: one character; null finds it out from the first line.
        missing: texts that mark a missing value, in any case; an empty cell always does.
        formats: columns written as "plain" (1234.5), "decimal_point" (1,234.5), "decimal_comma"
            (1.234,5), "year_first", "day_first", "month_first", "month_name", or "text": labels
            that are only equal if their texts are.
        batch_size: samples in a batch.
        val_fraction: share of all rows for validation; with `folds`, of the other folds' rows.
        test_fraction: share of all rows for the test; unused with `folds`.
        split_seed: fixes the parts, whatever the run's seed.
        folds: number of folds of a cross-validation; null for a single split.
        fold: the fold to test on, counted from 0; null lets train.py train all of them.
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
        path = str(path)
        target = names_of(target)
        # Plain lists: a checkpoint cannot hold Hydra's own.
        numeric, categorical, drop = map(names_of, (numeric, categorical, drop))
        group = None if group is None else name_of(group)
        split_column = None if split_column is None else name_of(split_column)
        missing = names_of(missing)
        formats = {str(key): names_of(columns) or [] for key, columns in (formats or {}).items()}
        self.save_hyperparameters(logger=False)

    def read(self) -> TableArrays:
        """All rows of the file.

        Raises:
            UserError: the file or the choice of columns cannot be used.
        """
        options = self.hparams
        table = read_table_file(Path(options["path"]).expanduser(), options["delimiter"])
        check_rows(table)
        names = options["target"] or []
        check_targets(table, names)
        formats = check_formats(options["formats"], table)
        reader = ColumnReader(table, missing_markers(options["missing"]), formats)
        target = read_targets(reader, names, options["task"])
        categorical, group, split = (options[k] for k in ("categorical", "group", "split_column"))
        special = [column for column in (group, split) if column is not None]
        drop = list(dict.fromkeys([*(options["drop"] or []), *special]))
        features = read_features(reader, names, options["numeric"], categorical, drop)
        columns = features | dict(target.columns)
        check_grouping(reader, columns)
        report(reader, columns, chosen=[*names, *(categorical or [])])
        self.readings = {name: column.reading for name, column in features.items()}
        values = {name: column.values for name, column in features.items()}
        return TableArrays(
            values,
            target.values,
            names[0] if target.values.ndim == 1 else names,
            target.class_names,
            groups=None if group is None else read_groups(reader, group),
            given={} if split is None else read_given_splits(reader, split),
        )

    def load(self) -> dict[str, Dataset[Batch]]:
        """As for every table; a file to predict on is read in the same way."""
        datasets = super().load()
        self.preprocessing |= {name: self.hparams[name] for name in ("delimiter", "missing")}
        for column in self.preprocessing["columns"]:
            reading = self.readings[column["name"]]
            if reading is not None:
                column["reading"] = reading.save()
        return datasets


def names_of(names: Any) -> list[str] | None:
    """A list of names; a single name may stand for itself."""
    if names is None:
        return None
    several = isinstance(names, Sequence) and not isinstance(names, str)
    return [name_of(name) for name in (names if several else [names])]


def name_of(value: Any) -> str:
    """The text that the user typed, of which YAML makes a number, a boolean or null."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)
