"""Predictions as the columns of a table, for every command and analysis."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .floats import exact_floats
from .models.supervised import SupervisedModule

# The probability from which a label of a multilabel classification is predicted.
THRESHOLD = 0.5
SEPARATOR = ";"
# Columns of every table of predictions; a target with one of these names is renamed.
RESERVED = ("input", "unknown", "error")

Cell = str | float | None


def join_labels(names: Sequence[str], chosen: Iterable[int]) -> str:
    """The names of the chosen labels in one cell."""
    return SEPARATOR.join(names[position] for position in chosen)


def result_columns(model: SupervisedModule) -> list[str]:
    """The columns of a prediction: class or labels and probabilities, or values."""
    if model.task == "regression":
        return [f"{n}_predicted" if n in RESERVED else n for n in _distinct(model.output_names)]
    return ["prediction", *_distinct([f"p({name})" for name in model.output_names])]


def _distinct(names: list[str]) -> list[str]:
    """The names, numbered where they repeat; the first keeps its name."""
    again = [names[:place].count(name) for place, name in enumerate(names)]
    return [f"{n}_{k + 1}" if k else n for n, k in zip(names, again, strict=True)]


def result_rows(model: SupervisedModule, outputs: NDArray[Any]) -> list[list[Cell]]:
    """One row per prediction, in the columns of `result_columns`.

    Args:
        model: the model that predicted.
        outputs: probabilities (N, num_classes), or values (N,) or (N, len(output_names)).
    """
    numbers = exact_floats(outputs)
    if model.task == "regression":
        return [[row] if outputs.ndim == 1 else row for row in numbers]
    if model.task == "multilabel":
        places = (np.flatnonzero(row >= THRESHOLD) for row in outputs)
        said = [join_labels(model.output_names, chosen) for chosen in places]
    else:
        best = outputs.argmax(axis=1) if len(outputs) else []
        said = [model.output_names[place] for place in best]
    return [[answer, *row] for answer, row in zip(said, numbers, strict=True)]


def has_categories(model: SupervisedModule) -> bool:
    """Whether an input can contain a category or an empty text that the training split did not."""
    columns = model.hparams["preprocessing"].get("columns", [])
    return any(column["type"] in ("categorical", "text") for column in columns)
