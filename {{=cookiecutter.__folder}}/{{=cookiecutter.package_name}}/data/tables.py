"""From the columns of a table to the model's input, by plain values that a checkpoint can hold.

A numeric column becomes (value - mean) / deviation, with the median where the value is missing. If
values were missing in the training part, a second feature says whether this one was.
A categorical column becomes one feature for each level that the training part holds, and one for
everything else: a missing value or a level never seen.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import UserError
from .splits import Indices

# Numbers with NaN where the value is missing, or texts with "" there.
Numbers = NDArray[np.float64]
Column = Numbers | Sequence[str]


def table_preprocessing(columns: Mapping[str, Column], train: Indices) -> dict[str, Any]:
    """Plain values that turn rows into inputs, from the rows of the training part alone.

    Args:
        columns: name -> values of all rows.
        train: positions of the training rows.

    Raises:
        UserError: a numeric column holds no value in the training part.
    """
    fitted = [_fit_column(name, values, train) for name, values in columns.items()]
    return {"kind": "table", "columns": fitted, "features": feature_names(fitted)}


def encode_table(preprocessing: dict[str, Any], columns: Mapping[str, Column]) -> Tensor:
    """The rows of the columns as float32 (N, num_features)."""
    encoded = []
    for fitted in preprocessing["columns"]:
        encode = _encode_numeric if fitted["type"] == "numeric" else _encode_categorical
        encoded.append(encode(fitted, columns[fitted["name"]]))
    return torch.from_numpy(np.concatenate(encoded, axis=1).astype(np.float32))


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


def _fit_column(name: str, values: Column, train: Indices) -> dict[str, Any]:
    if not isinstance(values, np.ndarray):
        levels = {values[index] for index in train} - {""}
        return {"name": name, "type": "categorical", "levels": sorted(levels)}
    missing = np.isnan(values[train])
    present = values[train][~missing]
    if len(present) == 0:
        raise UserError(
            f"Column '{name}' holds no value in the training part: leave it out with data.drop."
        )
    return {
        "name": name,
        "type": "numeric",
        "mean": float(present.mean()),
        # A column that never changes must not divide by zero.
        "std": float(present.std()) or 1.0,
        "median": float(np.median(present)),
        "indicator": bool(missing.any()),
    }


def _encode_numeric(fitted: dict[str, Any], values: Column) -> Numbers:
    numbers = np.asarray(values, dtype=np.float64)
    missing = np.isnan(numbers)
    filled = np.where(missing, fitted["median"], numbers)
    features = [(filled - fitted["mean"]) / fitted["std"]]
    if fitted["indicator"]:
        features.append(missing.astype(np.float64))
    return np.stack(features, axis=1)


def _encode_categorical(fitted: dict[str, Any], values: Column) -> Numbers:
    place = {level: index for index, level in enumerate(fitted["levels"])}
    unknown = len(place)
    chosen = [place.get(str(value), unknown) for value in values]
    return np.eye(unknown + 1)[chosen]
