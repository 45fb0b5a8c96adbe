"""What a model made of the samples of a part: all that an analysis needs."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..models.base import BaseModule


@dataclass(frozen=True)
class Outcome:
    """A model's answers, sample by sample in the order of the dataset.

    Attributes:
        model: the model, for its hyperparameters.
        dataset: the samples, of which only those that are shown are read again.
        targets: class numbers, or true values in the target's own unit, float64 (N,).
        predictions: class probabilities (N, num_classes), values (N,) like the targets, or
            features (N, F).
        losses: the model's loss on each sample alone (N,); empty for a model without targets.
        layer: where the activations come from, in words.
        activations: of some samples, spread evenly (M, channels).
        positions: of these samples in the dataset (M,).
    """

    model: BaseModule
    dataset: Dataset[Any]
    targets: Tensor
    predictions: Tensor
    losses: Tensor
    layer: str
    activations: Tensor
    positions: Tensor

    @property
    def is_classification(self) -> bool:
        """Whether the targets are classes."""
        return "class_names" in self.model.hparams

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their numbers."""
        return [str(name) for name in self.model.hparams["class_names"]]

    @property
    def target_name(self) -> str:
        """Name of the number that is predicted."""
        return str(self.model.hparams["target_name"])

    @property
    def preprocessing(self) -> dict[str, Any]:
        """How raw inputs became the model's."""
        return dict(self.model.hparams["preprocessing"])

    def inputs(self, positions: list[int]) -> Tensor:
        """The model's inputs at these positions of the dataset."""
        return torch.stack([self.dataset[position][0] for position in positions])
