"""Metrics of classes that count on a GPU without waiting for it.

torchmetrics counts with `torch.bincount`, which on a GPU reads the smallest and the largest value
before it counts: two synchronizations per metric and step. The number of classes is known, so
nothing has to be read. The counts are the same integers.
"""

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassF1Score,
    MulticlassFBetaScore,
    MulticlassPrecision,
    MulticlassRecall,
    MulticlassSpecificity,
    MulticlassStatScores,
)


class PerClass(MulticlassStatScores):
    """Counts true and false positives and negatives of each class."""

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add a batch: class indices or scores (B, C, ...), and class indices (B, ...)."""
        special = self.top_k != 1 or self.multidim_average != "global"
        if self.average == "micro" or special or self.ignore_index is not None:
            super().update(preds, target)
            return
        if preds.ndim == target.ndim + 1:
            preds = preds.argmax(dim=1)
        assert self.num_classes is not None
        preds, target = preds.flatten(), target.flatten()
        hits = count(target, self.num_classes, preds == target)
        false_positives = count(preds, self.num_classes) - hits
        false_negatives = count(target, self.num_classes) - hits
        others = len(target) - (hits + false_positives + false_negatives)
        self._update_state(hits, false_positives, others, false_negatives)


def count(classes: Tensor, num_classes: int, which: Tensor | None = None) -> Tensor:
    """How often each class occurs, int64 (num_classes,).

    Args:
        classes: class indices (N,).
        num_classes: their number.
        which: bool (N,), the samples to count; None for all.
    """
    counts = torch.zeros(num_classes, dtype=torch.long, device=classes.device)
    ones = torch.ones_like(classes) if which is None else which.long()
    return counts.scatter_add_(0, classes, ones)


class Accuracy(PerClass, MulticlassAccuracy):
    """Accuracy, of which the macro average is the balanced accuracy."""


class F1Score(PerClass, MulticlassF1Score):
    """Harmonic mean of precision and recall."""


class FBetaScore(PerClass, MulticlassFBetaScore):
    """Weighted harmonic mean of precision and recall."""


class Precision(PerClass, MulticlassPrecision):
    """Fraction of the predictions of a class that are right."""


class Recall(PerClass, MulticlassRecall):
    """Fraction of the samples of a class that are found."""


class Specificity(PerClass, MulticlassSpecificity):
    """Fraction of the samples of other classes that are not mistaken for a class."""


WITHOUT_WAITING: dict[type[Metric], type[Metric]] = {
    one.__bases__[1]: one for one in (Accuracy, F1Score, FBetaScore, Precision, Recall, Specificity)
}
