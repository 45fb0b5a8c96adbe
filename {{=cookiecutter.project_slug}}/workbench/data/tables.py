"""Tables that fit in memory, encoded by plain values that a checkpoint can hold.

A numeric column becomes (value - mean) / std, with the median where the value is missing. If values
are missing in the training split, a second feature marks them.
A categorical column becomes one feature for each level in the training split, and one for
everything else: a missing value or an unknown level.
A column that is constant in the training split becomes nothing.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .base import BaseDataModule
from .batches import Batch, BatchDataset
from .cells import (
    Equality,
    Key,
    LabelFinder,
    Reading,
    find_equality,
    label_key,
    spellings,
)
from .splits import Indices, Samples
from .table_file import list_option

log = logging.getLogger(__name__)

# Numbers with NaN where the value is missing.
Numbers = NDArray[np.float64]
# One-hot features of a column; with more, a row is nearly empty and memory runs out.
MOST_FEATURES = 1000
# Rows compared when looking for values that 32 bits merge.
COMPARED = 10_000


@dataclass
class Words:
    """A column of texts.

    Args:
        texts: the distinct ones, "" for a missing value.
        codes: position in `texts` for each row (N,).
        equality: which of them are the same label.
    """

    texts: list[str]
    codes: NDArray[np.integer[Any]]
    equality: Equality

    @classmethod
    def from_cells(cls, cells: Sequence[str]) -> "Words":
        """A column with these cells."""
        texts, codes = np.unique(np.array(cells, dtype=object), return_inverse=True)
        return cls(texts.tolist(), codes, find_equality(set(cells) - {""}))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: Indices) -> "Words":
        """The rows at these positions."""
        return Words(self.texts, self.codes[rows], self.equality)

    def present(self) -> list[str]:
        """The texts that occur, without the missing value."""
        counts = np.bincount(self.codes, minlength=len(self.texts))
        return [text for text, count in zip(self.texts, counts, strict=True) if text and count]

    def missing(self) -> NDArray[np.bool_]:
        """Whether the value is missing, for each row (N,)."""
        return np.array([not text for text in self.texts])[self.codes]

    def numbers(self, keys: Iterable[Key]) -> NDArray[np.int64]:
        """The position of each row's label among the keys of all labels; -1 for a missing value."""
        places = {key: place for place, key in enumerate(keys)}
        found = [places[label_key(text, self.equality)] if text else -1 for text in self.texts]
        return np.array(found, np.int64)[self.codes]


Column = Numbers | Words


def table_preprocessing(columns: Mapping[str, Column], train: Indices) -> dict[str, Any]:
    """Plain values that turn rows into inputs, computed from the training rows alone.

    Args:
        columns: name -> values of all rows.
        train: positions of the training rows.

    Raises:
        UserError: a column has no value or too many levels in the training split, or all are
            constant.
    """
    fitted = {name: _fit_column(name, values[train]) for name, values in columns.items()}
    constant = [name for name, column in fitted.items() if _is_constant(column)]
    if len(constant) == len(fitted):
        raise UserError(
            f"All columns are constant in the training split ({', '.join(constant)}): there is "
            "nothing to predict from."
        )
    if constant:
        log.warning(
            "Columns that the model does not see, because they are constant in the training split: "
            "%s",
            ", ".join(constant),
        )
    kept = [column for name, column in fitted.items() if name not in constant]
    return {"kind": "table", "columns": kept, "features": feature_names(kept)}


def encode_table(preprocessing: dict[str, Any], columns: Mapping[str, Column]) -> Tensor:
    """The rows of the columns as float32 (N, num_features).

    A value too far from the training values for a 32-bit number becomes infinite.
    """
    rows = len(columns[preprocessing["columns"][0]["name"]])
    encoded = np.zeros((rows, len(preprocessing["features"])), np.float32)
    place = 0
    for fitted in preprocessing["columns"]:
        width = len(feature_names([fitted]))
        features = encoded[:, place : place + width]
        values = columns[fitted["name"]]
        if fitted["type"] == "numeric":
            _encode_numeric(fitted, values, features)
        else:
            assert isinstance(values, Words)
            _encode_categorical(fitted, values, features)
        place += width
    return torch.from_numpy(encoded)


def feature_names(fitted_columns: list[dict[str, Any]]) -> list[str]:
    """The name of each feature, in the order of the encoded table."""
    names = []
    for column in fitted_columns:
        name = column["name"]
        if column["type"] == "categorical":
            names += [f"{name}={level}" for level in column["levels"]] + [f"{name}=?"]
        else:
            names += [name] + [f"{name} missing"] * column["indicator"]
    return names


def find_levels(fitted: dict[str, Any], words: Words) -> NDArray[np.int64]:
    """The position of the level of each text, -1 for a missing or unknown one."""
    finder = LabelFinder(fitted["levels"], Equality(fitted["equality"]))
    found = [finder.find(text) if text else None for text in words.texts]
    return np.array([-1 if place is None else place for place in found], dtype=np.int64)


def out_of_range(fitted: dict[str, Any], values: Numbers) -> NDArray[np.bool_]:
    """Which values of a numeric column are too far from the training values for a 32-bit input."""
    if not fitted["std"]:
        return np.zeros(len(values), dtype=bool)
    with np.errstate(over="ignore"):
        return np.isinf(_standardise(fitted, values).astype(np.float32))


def _fit_column(name: str, values: Column) -> dict[str, Any]:
    if isinstance(values, Words):
        return _fit_categorical(name, values)
    missing = np.isnan(values)
    present = values[~missing]
    if len(present) == 0:
        raise UserError(
            f"Column '{name}' holds no value in the training split: leave it out with data.drop."
        )
    constant = is_constant(present)
    mean, std = (float(present[0]), 0.0) if constant else mean_and_deviation(present)
    fitted = {
        "name": name,
        "type": "numeric",
        "mean": mean,
        # 0 for a constant column.
        "std": std,
        # Halves are exact, and the sum of the two middle values stays finite.
        "median": float(np.median(present / 2) * 2),
        "indicator": bool(missing.any()),
    }
    if not constant:
        _warn_of_merged(fitted, present[:COMPARED])
    return fitted


def mean_and_deviation(values: Numbers) -> tuple[float, float]:
    """Mean and standard deviation, even of numbers whose squares exceed 64 bits."""
    # A power of two, so that scaling is exact.
    exponent = np.frexp(np.abs(values).max())[1]
    scaled = np.ldexp(values, -exponent)
    return float(np.ldexp(scaled.mean(), exponent)), float(np.ldexp(scaled.std(), exponent))


def is_constant(values: Numbers) -> bool:
    """Whether all values are the same, apart from rounding errors."""
    lowest, highest = float(values.min()), float(values.max())
    tolerance = 4 * float(np.finfo(np.float64).eps) * max(abs(lowest), abs(highest))
    return highest / 2 - lowest / 2 <= tolerance / 2


def _fit_categorical(name: str, words: Words) -> dict[str, Any]:
    levels = list(spellings(words.present(), words.equality).values())
    if len(levels) > MOST_FEATURES:
        raise UserError(
            f"Column '{name}' holds {len(levels)} different texts in the training split, and each "
            f"would become an input (at most {MOST_FEATURES}): group rare ones in the file, or "
            f"leave it out with {list_option('drop', [name])}."
        )
    return {
        "name": name,
        "type": "categorical",
        "levels": levels,
        "equality": words.equality.value,
        "missing": bool(words.missing().any()),
    }


def _is_constant(fitted: dict[str, Any]) -> bool:
    if fitted["type"] == "categorical":
        return len(fitted["levels"]) + fitted["missing"] <= 1
    return fitted["std"] == 0 and not fitted["indicator"]


def _warn_of_merged(fitted: dict[str, Any], values: Numbers) -> None:
    """Warn if the model cannot distinguish values that differ in the table."""
    distinct = len(np.unique(values))
    merged = distinct - len(np.unique(_standardise(fitted, values).astype(np.float32)))
    # A few pairs of many random numbers are always that close.
    if merged > 1e-7 * distinct**2:
        log.warning(
            "Column '%s': %d of %d different values become the same input as another, because "
            "32-bit inputs cannot distinguish them beside such large ones. If their differences "
            "matter, remove outliers or split the column.",
            fitted["name"],
            merged,
            distinct,
        )


def _standardise(fitted: dict[str, Any], numbers: Numbers) -> Numbers:
    # Halves are exact, and the difference of two huge numbers stays finite.
    return (numbers / 2 - fitted["mean"] / 2) / (fitted["std"] / 2)


def _encode_numeric(fitted: dict[str, Any], values: Column, features: NDArray[np.float32]) -> None:
    numbers = np.asarray(values, dtype=np.float64)
    missing = np.isnan(numbers)
    if fitted["std"]:
        with np.errstate(over="ignore"):  # the caller looks for infinity
            features[:, 0] = _standardise(fitted, np.where(missing, fitted["median"], numbers))
    if fitted["indicator"]:
        features[:, 1] = missing


def _encode_categorical(
    fitted: dict[str, Any], words: Words, features: NDArray[np.float32]
) -> None:
    # The last feature, at position -1, is the one for everything else.
    features[np.arange(len(words)), find_levels(fitted, words)[words.codes]] = 1


@dataclass
class TableArrays:
    """The rows of all splits.

    Args:
        columns: name -> values of the columns that the model may see.
        target: class numbers or values to predict (N,); labels 0 and 1 or values of several
            columns (N, T).
        target_name: name of the target column; a list for several.
        class_names: in the order of the class numbers or labels; None for a regression.
        groups: any values (N,); rows with equal values stay in one split. None if rows are
            independent of each other.
        given: splits that the table names, as positions of rows.
        readings: name -> how a column of numbers or dates is written, for files to predict on.
        file_options: how else such a file is read.
    """

    columns: Mapping[str, Column]
    target: NDArray[np.int64] | NDArray[np.float64]
    target_name: str | list[str]
    class_names: list[str] | None = None
    groups: NDArray[Any] | None = None
    given: Mapping[str, Indices] = field(default_factory=dict)
    readings: Mapping[str, Reading] = field(default_factory=dict)
    file_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The kind of target."""
        if self.class_names is None:
            return "regression"
        return "classification" if self.target.ndim == 1 else "multilabel"


class TableDataModule(BaseDataModule):
    """Rows of a table, encoded once. A subclass defines `read`."""

    def read(self) -> TableArrays:
        """All rows."""
        raise NotImplementedError

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the rows and encode them with the statistics of the training split."""
        table = self.read()
        splits = self.split_rows(table)
        self.preprocessing = table_preprocessing(table.columns, splits["train"])
        self.preprocessing |= table.file_options
        for column in self.preprocessing["columns"]:
            if column["name"] in table.readings:
                column["reading"] = table.readings[column["name"]].save()
        check_memory(len(table.target), len(self.preprocessing["features"]))
        x = encode_table(self.preprocessing, table.columns)
        check_range(x, self.preprocessing["features"])
        self.input_shape = (x.shape[1],)
        y = self.read_target(table, splits["train"])
        return {name: BatchDataset(x[chosen], y[chosen]) for name, chosen in splits.items()}

    def split_rows(self, table: TableArrays) -> dict[str, Indices]:
        """Positions of the rows of each split, after a check of their values."""
        check_finite(table)
        labels = table.target.astype(np.int64) if table.task == "classification" else None
        names = table.class_names or ()
        return self.split(Samples(len(table.target), labels, names, table.groups, table.given))

    def read_target(self, table: TableArrays, train: Indices) -> Tensor:
        """Set the facts about the target, and return it as the model needs it."""
        self.task, self.target_name = table.task, table.target_name
        if table.class_names is None:
            return self.standardise_target(table.target.astype(np.float64), train)
        self.class_names = table.class_names
        if self.task == "classification":
            return torch.from_numpy(table.target.astype(np.int64))
        report_absent(table.class_names, table.target[train])
        return torch.from_numpy(table.target.astype(np.float32))


def report_absent(names: Sequence[str], labels: NDArray[Any]) -> None:
    """Warn of labels that are constant in the training samples (N, L)."""
    lowest, highest = labels.min(axis=0), labels.max(axis=0)
    if absent := [name for name, a, b in zip(names, lowest, highest, strict=True) if a == b]:
        log.warning(
            "Labels that are the same in every training row, so that nothing is learned about "
            "them: %s",
            ", ".join(absent),
        )


def check_memory(rows: int, features: int) -> None:
    """Raise a UserError if the inputs and a copy of them do not fit into memory."""
    needed, free = 2 * 4 * rows * features, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{rows} rows of {features} inputs take {needed / 1e9:.1f} GB, but only "
            f"{free / 1e9:.1f} GB of memory are free: leave out columns of many categories with "
            "data.drop."
        )


def check_range(x: Tensor, features: list[str]) -> None:
    """Raise a UserError that names a feature too far from its training values."""
    if not torch.isfinite(torch.stack(x.aminmax())).all():
        row, place = torch.isfinite(x).logical_not().nonzero()[0].tolist()
        raise UserError(
            f"'{features[place]}' is too far from its values in the training split for a 32-bit "
            f"number in sample {row}, counted from 0: correct or remove this sample."
        )


def check_finite(table: TableArrays) -> None:
    """Raise a UserError that names the first sample with infinity or without a target."""
    wrong = {name: np.isinf(values) for name, values in table.columns.items() if _numeric(values)}
    if isinstance(table.target_name, str):
        wrong[table.target_name] = ~np.isfinite(table.target)
    else:
        wrong |= dict(zip(table.target_name, ~np.isfinite(table.target.T), strict=True))
    for name, samples in wrong.items():
        if samples.any():
            raise UserError(
                f"'{name}' is not a finite number in sample {samples.argmax()}, counted from 0 "
                f"({samples.sum()} of {len(samples)} samples): correct or remove these samples."
            )


def _numeric(values: Column) -> TypeGuard[Numbers]:
    return isinstance(values, np.ndarray)
