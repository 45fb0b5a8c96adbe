"""Losses by name. To add your own, write it here and add a line to `LOSSES`.

A loss maps (outputs, y) to a scalar, the mean over the batch. Targets y are class indices (B,),
labels (B, L) from 0 to 1, or standardised values (B,) or (B, T) with outputs of the same shape.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.precision import only_move


class ClassLoss(nn.Module):
    """A loss with class weights.

    Args:
        class_weight: one per class; None for equal weights.
        label_smoothing: fraction of the target probability that is spread over all classes.
    """

    weight: Tensor | None

    def __init__(
        self, class_weight: Sequence[float] | None = None, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is at least 0 and below 1, not {label_smoothing}")
        weight = None if class_weight is None else torch.tensor(class_weight, dtype=torch.float32)
        self.register_buffer("weight", weight, persistent=False)
        self.label_smoothing = label_smoothing

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # The weights stay in float32, as the loss does, whatever the precision of the network.
        return super()._apply(only_move(fn), recurse)

    def batch_weight(self, y: Tensor) -> float | Tensor:
        """The weight of a batch in the mean over an epoch."""
        return len(y)


class CrossEntropy(ClassLoss):
    """Cross-entropy of logits (B, C) in nats; with class weights, the weighted mean.

    Targets are class indices (B,) or, after MixUp and CutMix, probabilities (B, C).
    """

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        options = {"weight": self.weight, "label_smoothing": self.label_smoothing}
        if not y.is_floating_point() or self.weight is None:
            return F.cross_entropy(outputs, y, **options)
        # With probabilities, PyTorch divides by the number of samples instead of their weights.
        return F.cross_entropy(outputs, y, **options, reduction="sum") / self.batch_weight(y)

    def batch_weight(self, y: Tensor) -> float | Tensor:
        """The sum of the samples' weights, by which the loss was divided."""
        if self.weight is None:
            return len(y)
        return (y @ self.weight if y.is_floating_point() else self.weight[y]).sum()


class BinaryCrossEntropy(ClassLoss):
    """Binary cross-entropy of logits (B, L) in nats; weights apply where the label is 1."""

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        y = y.to(outputs) * (1 - self.label_smoothing) + self.label_smoothing / 2
        return F.binary_cross_entropy_with_logits(outputs, y, pos_weight=self.weight)


class SquaredError(nn.Module):
    """Mean squared error; the network learns the mean of the target."""

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        return F.mse_loss(outputs, y)


class AbsoluteError(nn.Module):
    """Mean absolute error; the network learns the median of the target."""

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        return F.l1_loss(outputs, y)


class Huber(nn.Module):
    """Squared error up to `delta` standard deviations, linear beyond: robust to outliers."""

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        if not delta > 0:
            raise ValueError(f"delta is positive, not {delta}")
        self.delta = delta

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        return F.huber_loss(outputs, y, delta=self.delta)


class QuantileLoss(nn.Module):
    """The pinball loss, averaged over the quantiles; outputs (B, T * Q), targets outermost.

    Args:
        quantiles: one or several between 0 and 1, in ascending order.
    """

    levels: Tensor

    def __init__(self, quantiles: Sequence[float] | float) -> None:
        super().__init__()
        several = [quantiles] if isinstance(quantiles, float | int) else list(quantiles)
        self.quantiles = [float(quantile) for quantile in several]
        limits = [0.0, *self.quantiles, 1.0]
        if len(limits) == 2 or any(a >= b for a, b in pairwise(limits)):
            raise ValueError(f"quantiles lie between 0 and 1 in ascending order, not {several}")
        self.register_buffer("levels", torch.tensor(self.quantiles), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # 0.95 would be 0.9492 in bfloat16.
        return super()._apply(only_move(fn), recurse)

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        errors = y[..., None] - outputs.reshape(*y.shape, len(self.quantiles))
        return torch.maximum(self.levels * errors, (self.levels - 1) * errors).mean()


# By task; the first loss of each is its default.
LOSSES: dict[str, dict[str, Callable[..., nn.Module]]] = {
    "classification": {"cross_entropy": CrossEntropy},
    "multilabel": {"bce": BinaryCrossEntropy},
    "regression": {
        "mse": SquaredError,
        "mae": AbsoluteError,
        "l1": AbsoluteError,
        "huber": Huber,
        "quantile": QuantileLoss,
    },
}
