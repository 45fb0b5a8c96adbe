"""Modules that take some of what the data know, by name."""

import torch
from torch import nn

from .tutorial import LitClassifier


class NamedClasses(LitClassifier):
    """Requests two facts; the others are not its business."""

    def __init__(self, num_classes: int, class_names: list[str], lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.head = nn.Linear(16, num_classes)
        self.class_names = class_names
        assert len(class_names) == num_classes


class NeedsVocabulary(LitClassifier):
    """Requests what no data provide."""

    def __init__(self, vocabulary: int, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.embedding = nn.Embedding(vocabulary, 2)


class TakesAnything(LitClassifier):
    """Passes everything on, so that it must be given nothing that it has not asked for."""

    def __init__(self, **options: float) -> None:
        assert options.keys() <= {"lr", "hidden", "dropout"}, options
        super().__init__(**options)


class BrokenInside(LitClassifier):
    """A bug of the owner's, deep inside the constructor."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.mean = self.average([])

    def average(self, values: list[float]) -> torch.Tensor:
        return torch.tensor(sum(values) / len(values))


class BrokenStep(LitClassifier):
    """A bug of the owner's in a step."""

    def training_step(self, batch, batch_idx):
        return self.missing_layer(batch[0]).sum()
