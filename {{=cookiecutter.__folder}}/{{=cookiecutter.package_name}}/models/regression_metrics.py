"""Metrics of a regression, which gets standardised targets."""

from functools import reduce

import torch
from torch import Tensor
from torchmetrics import MeanAbsoluteError, Metric

# Number of targets, their mean, and the sum of their squared deviations from it.
Moments = tuple[Tensor, Tensor, Tensor]


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

    count: Tensor
    mean: Tensor
    spread: Tensor
    error: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Several processes cannot add up their means: each keeps its own until `compute`.
        self.add_state("count", torch.tensor(0), dist_reduce_fx=None)
        self.add_state("mean", torch.tensor(0.0), dist_reduce_fx=None)
        self.add_state("spread", torch.tensor(0.0), dist_reduce_fx=None)
        self.add_state("error", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("lowest", torch.tensor(float("inf")), dist_reduce_fx="min")
        self.add_state("highest", torch.tensor(float("-inf")), dist_reduce_fx="max")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch of predictions and targets, (B,) each."""
        predictions, targets = predictions.to(self.mean), targets.to(self.mean)
        mean = targets.mean()
        batch = (self.count.new_tensor(len(targets)), mean, (targets - mean).square().sum())
        self.count, self.mean, self.spread = merge((self.count, self.mean, self.spread), batch)
        self.error = self.error + (predictions - targets).square().sum()
        self.lowest = torch.minimum(self.lowest, targets.min())
        self.highest = torch.maximum(self.highest, targets.max())

    def compute(self) -> Tensor:
        """The coefficient as a scalar, at most 1."""
        processes = (state.reshape(-1) for state in (self.count, self.mean, self.spread))
        _, _, spread = reduce(merge, zip(*processes, strict=True))
        self.is_defined = bool(self.lowest < self.highest)
        return 1 - self.error / spread if self.is_defined else self.error.new_tensor(float("nan"))


def merge(some: Moments, others: Moments) -> Moments:
    """The moments of two groups of targets taken together."""
    count, mean, spread = some
    more, other_mean, other_spread = others
    total = count + more
    share = more / total.clamp(min=1)
    gap = other_mean - mean
    return total, mean + gap * share, spread + other_spread + gap.square() * count * share
