"""From the columns of a table to the model's input, by plain values that a checkpoint can hold.

A numeric column becomes (value - mean) / deviation, with the median where the value is missing. If
values were missing in the training part, a second feature says whether this one was.
A categorical column becomes one feature for each level that the training part holds, and one for
everything else: a missing value or a level never seen.
A column that never changes in the training part becomes nothing.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from .checks import list_option
from .labels import Equality, LabelFinder, find_equality, spellings
from .splits import Indices

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
        texts: the different ones, "" for a missing value.
        codes: position in `texts` for each row (N,).
        equality: which of them are the same label.
    """

    texts: list[str]
    codes: NDArray[np.integer[Any]]
    equality: Equality

    @classmethod
    def from_cells(cls, cells: Sequence[str]) -> "Words":
        """The column that holds these cells."""
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

    def any_missing(self) -> bool:
        """Whether a value is missing."""
        empty = np.array([not text for text in self.texts])
        return bool(empty[self.codes].any())


Column = Numbers | Words


def table_preprocessing(columns: Mapping[str, Column], train: Indices) -> dict[str, Any]:
    """Plain values that turn rows into inputs, from the rows of the training part alone.

    Args:
        columns: name -> values of all rows.
        train: positions of the training rows.

    Raises:
        UserError: a column has no value or too many levels in the training part, or none changes.
    """
    fitted = {name: _fit_column(name, values[train]) for name, values in columns.items()}
    constant = [name for name, column in fitted.items() if _is_constant(column)]
    if len(constant) == len(fitted):
        raise UserError(
            f"No column changes in the training part ({', '.join(constant)}): there is nothing to "
            "predict from."
        )
    if constant:
        log.warning(
            "Columns that the model does not see, because they never change in the training part: "
            "%s",
            ", ".join(constant),
        )
    kept = [column for name, column in fitted.items() if name not in constant]
    return {"kind": "table", "columns": kept, "features": feature_names(kept)}


def encode_table(preprocessing: dict[str, Any], columns: Mapping[str, Column]) -> Tensor:
    """The rows of the columns as float32 (N, num_features).

    A value too far from those of training to be a 32-bit number becomes infinite.
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
    """One name for each feature, in the order of the encoded table."""
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
    """Which values of a numeric column are too far from those of training for a 32-bit input."""
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
            f"Column '{name}' holds no value in the training part: leave it out with data.drop."
        )
    constant = is_constant(present)
    mean, std = (float(present[0]), 0.0) if constant else mean_and_deviation(present)
    fitted = {
        "name": name,
        "type": "numeric",
        "mean": mean,
        # 0 for a column that never changes.
        "std": std,
        # Halves are exact, and the sum of the two middle values stays finite.
        "median": float(np.median(present / 2) * 2),
        "indicator": bool(missing.any()),
    }
    if not constant:
        _warn_of_merged(fitted, present[:COMPARED])
    return fitted


def mean_and_deviation(values: Numbers) -> tuple[float, float]:
    """Mean and standard deviation, also of numbers whose squares are no 64-bit numbers."""
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
            f"Column '{name}' holds {len(levels)} different texts in the training part, and each "
            f"would become an input (at most {MOST_FEATURES}): group rare ones in the file, or "
            f"leave it out with {list_option('drop', [name])}."
        )
    return {
        "name": name,
        "type": "categorical",
        "levels": levels,
        "equality": words.equality.value,
        "missing": words.any_missing(),
    }


def _is_constant(fitted: dict[str, Any]) -> bool:
    if fitted["type"] == "categorical":
        return len(fitted["levels"]) + fitted["missing"] <= 1
    return fitted["std"] == 0 and not fitted["indicator"]


def _warn_of_merged(fitted: dict[str, Any], values: Numbers) -> None:
    """Warn if the model cannot tell apart values that differ in the table."""
    distinct = len(np.unique(values))
    merged = distinct - len(np.unique(_standardise(fitted, values).astype(np.float32)))
    # A few pairs of many random numbers are always that close.
    if merged > 1e-7 * distinct**2:
        log.warning(
            "Column '%s': %d of %d different values become the same input as another, because "
            "32-bit inputs cannot tell them apart beside such large ones. If their differences "
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
