"""Metrics of a regression, which gets standardised targets."""

from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, Metric


class ScaledMeanAbsoluteError(MeanAbsoluteError):
    """Mean absolute error of standardised values, in the target's own unit.

    Args:
        scale: standard deviation of the target, in its own unit.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def compute(self) -> Tensor:
        """The error as a scalar."""
        return super().compute() * self.scale


class R2(Metric):
    """Coefficient of determination: 1 - squared error / squared deviation from the mean target.

    A difference of two large sums would lose the digits of targets that lie far from zero, so the
    deviations of each batch are taken from the batch's own mean and then merged.

    Chan et al. 1983, https://doi.org/10.1080/00031305.1983.10483115

    Attributes:
        is_defined: whether the last `compute` had at least two different targets; if not, it
            returned NaN.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    is_defined = True

    moments: Tensor
    error: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Number of targets, their mean, and the sum of their squared deviations from it.
        self.add_state("moments", torch.zeros(3), dist_reduce_fx=merge_all)
        self.add_state("error", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("lowest", torch.tensor(float("inf")), dist_reduce_fx="min")
        self.add_state("highest", torch.tensor(float("-inf")), dist_reduce_fx="max")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch of predictions and targets, (B,) each."""
        predictions, targets = predictions.to(self.moments), targets.to(self.moments)
        count = len(targets)
        variance, mean = torch.var_mean(targets, correction=0)
        batch = torch.stack([torch.full_like(mean, count), mean, variance * count])
        self.moments = merge(self.moments, batch)
        self.error = self.error + F.mse_loss(predictions, targets, reduction="sum")
        lowest, highest = targets.aminmax()
        self.lowest = torch.minimum(self.lowest, lowest)
        self.highest = torch.maximum(self.highest, highest)

    def compute(self) -> Tensor:
        """The coefficient as a scalar, at most 1."""
        self.is_defined = bool(self.lowest < self.highest)
        if not self.is_defined:
            return self.error.new_tensor(float("nan"))
        return 1 - self.error / self.moments[2]


def merge(some: Tensor, others: Tensor) -> Tensor:
    """Count, mean and summed squared deviations (3,) of two groups of targets taken together."""
    count, mean, _ = some.unbind()
    more, other_mean, _ = others.unbind()
    gap = other_mean - mean
    share = more / (count + more).clamp(min=1)
    shift = gap * share
    return some + torch.stack([more, shift, others[2] + gap * shift * count])


def merge_all(groups: Tensor) -> Tensor:
    """The same of the groups of all processes (P, 3)."""
    return reduce(merge, groups)
