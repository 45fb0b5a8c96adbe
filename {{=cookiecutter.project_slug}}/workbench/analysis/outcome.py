"""What a model makes of the samples of a split: all that an analysis needs."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset


@dataclass(frozen=True)
class Outcome:
    """A model's answers, sample by sample in the order of the dataset.

    Attributes:
        task: "classification", "multilabel" or "regression"; None if the model does not say.
        dataset: the samples, of which only those that are shown are read again.
        targets: classes (N,), labels (N, num_classes) of 0 and 1, or true values in the target's
            own unit, float64 (N,) or (N, num_targets). Empty if there are none.
        predictions: probabilities (N, num_classes), or values like the targets; quantiles are
            reduced to the middle one.
        losses: the model's loss on each sample alone (N,); empty for a model without targets.
        layer: where the activations come from, in words.
        activations: of some samples, spread evenly (M, channels).
        positions: of these samples in the dataset (M,).
        class_names: names of the classes or labels, in the order of their numbers.
        target_names: names of the values that are predicted.
        preprocessing: how raw inputs became the model's.
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

    def inputs(self, positions: list[int]) -> Tensor:
        """The model's inputs at these positions of the dataset."""
        return torch.stack([self.dataset[position][0] for position in positions])


def columns(values: Tensor) -> list[Tensor]:
    """The values of each target, (N,) each, of values (N,) or (N, num_targets)."""
    return [values] if values.dim() == 1 else list(values.unbind(dim=1))
