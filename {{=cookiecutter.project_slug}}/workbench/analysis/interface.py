"""What an analysis receives and returns.

An analysis is a function that takes an `Evaluation` and returns a figure, a table or a text, or
None if there is nothing to show. `configs/analyses/` has a file for each.
"""

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rich.table
import torch
from hydra.utils import get_method
from matplotlib.figure import Figure
from omegaconf import DictConfig
from pytorch_lightning import LightningModule
from rich.text import Text
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from ..models.supervised import judges_samples
from ..runs.summary import CONSOLE


@dataclass(frozen=True)
class Evaluation:
    """Targets, predictions and losses of a split, in the order of the dataset.

    Attributes:
        task: "classification", "multilabel" or "regression"; None if unknown.
        dataset: the samples.
        targets: class indices (N,), labels (N, num_classes) of 0 and 1, or values in the target's
            own unit, float64 (N,) or (N, num_targets). Empty if there are none.
        predictions: probabilities (N, num_classes), or values like the targets; of several
            quantiles, the middle one.
        losses: the loss of each sample (N,); empty for a model without targets.
        layer: the layer that the activations come from, in words.
        activations: activations of evenly spaced samples (M, channels).
        positions: indices of these samples in the dataset (M,).
        class_names: names of the classes or labels, in the order of their indices.
        target_names: names of the predicted values.
        preprocessing: how raw inputs became the model's.
        model: the model, in evaluation mode.
    """

    task: str | None
    dataset: Dataset[Any]
    targets: Tensor
    predictions: Tensor
    losses: Tensor
    layer: str
    activations: Tensor
    positions: Tensor
    class_names: list[str] = field(default_factory=list)
    target_names: list[str] = field(default_factory=list)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    model: LightningModule | None = None

    def inputs(self, positions: list[int]) -> Tensor:
        """The model's inputs at these positions of the dataset."""
        return torch.stack([self.dataset[position][0] for position in positions])


def columns(values: Tensor) -> list[Tensor]:
    """The values of each target, (N,) each, from values (N,) or (N, num_targets)."""
    return [values] if values.dim() == 1 else list(values.unbind(dim=1))


@dataclass(frozen=True)
class Table:
    """A table, saved as a CSV file; NaN and None become empty cells.

    Attributes:
        columns: names of the columns.
        rows: one value per column each.
        shown: the number of rows that are also printed.
    """

    columns: list[str]
    rows: list[list[Any]]
    shown: int = 0

    def save(self, path: Path) -> None:
        """Write all rows as CSV."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns)
            writer.writerows([_text(value) for value in row] for row in self.rows)

    def show(self, title: str) -> None:
        """Print the first rows."""
        if not self.shown:
            return
        table = rich.table.Table(*self.columns, title=title, title_justify="left")
        for row in self.rows[: self.shown]:
            # Text, because a class may be called [red].
            table.add_row(*(Text(_text(value, ".3f")) for value in row))
        CONSOLE.print(table)
        left_out = len(self.rows) - self.shown
        if left_out > 0:
            CONSOLE.print(f"... and {left_out} more")


def _text(value: Any, numbers: str = "") -> str:
    """A cell; without a format, a number has all digits needed to read it back unchanged."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return format(value, numbers) if isinstance(value, float) else str(value)


Analysis = Callable[[Evaluation], Figure | Table | str | None]


def choose_analyses(
    config: DictConfig | None, model: LightningModule, is_explicit: bool
) -> dict[str, Analysis]:
    """The analyses that apply to a model, by name.

    Args:
        config: by name, the `function` of each analysis and optionally its `tasks`, or the
            `method` that the model must have.
        model: the model to analyse.
        is_explicit: whether the command names the analyses instead of using the default.

    Raises:
        UserError: the command names an analysis that does not apply to the model.
    """
    task = model.task if judges_samples(model) else None
    chosen = {}
    for name, entry in (config or {}).items():
        tasks, method = entry.get("tasks"), entry.get("method")
        if (tasks is None or task in tasks) and (method is None or hasattr(model, method)):
            chosen[str(name)] = get_method(entry.function)
        elif is_explicit:
            raise UserError(
                f"The analysis {name!r} does not apply to a {type(model).__name__}: leave it out "
                "of analyses=[...]."
            )
    return chosen
