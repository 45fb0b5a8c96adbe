"""Metrics of a regression on standardised targets."""

from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from .precision import PRECISE


class OfTarget(Metric):
    """A metric of one target, in the target's own unit.

    Args:
        metric: the metric, which is updated with values (B,).
        column: index of the target; None for a single target.
        mean: is added to the standardised values after multiplying them by `std`.
        std: see `mean`.
        factor: multiplies the result.
    """

    full_state_update = False

    def __init__(
        self,
        metric: Metric,
        column: int | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        factor: float = 1.0,
    ) -> None:
        super().__init__()
        self.metric, self.column = metric, column
        self.mean, self.std, self.factor = mean, std, factor

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch of standardised predictions and targets, (B,) or (B, T) each."""
        self.metric.update(self._values(predictions), self._values(targets))

    def compute(self) -> Tensor:
        """The value, a scalar."""
        value: Tensor = self.metric.compute()
        return value if self.factor == 1 else value * self.factor

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self.metric.reset()

    def _values(self, values: Tensor) -> Tensor:
        column = values if self.column is None else values[:, self.column].contiguous()
        if (self.mean, self.std) == (0, 1):
            return column
        return column.to(PRECISE) * self.std + self.mean


class R2(Metric):
    """Coefficient of determination: 1 - squared error / squared deviation from the mean target.

    A difference of two large sums would lose digits of targets far from zero, so deviations are
    computed from the mean of each batch and then merged.

    Chan et al. 1983, https://doi.org/10.1080/00031305.1983.10483115

    For several targets it is their mean. Unless each target has at least two different values, it
    is undefined: `compute` returns None, which Lightning does not log.

    Args:
        num_targets: number of targets.

    Attributes:
        is_defined: whether the last `compute` returned a value.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    is_defined = True

    moments: Tensor
    error: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, num_targets: int = 1) -> None:
        super().__init__()
        shape = (num_targets,)
        # Number of targets, their mean, and the sum of their squared deviations from it.
        self.add_state("moments", torch.zeros(3, *shape), dist_reduce_fx=merge_all)
        self.add_state("error", torch.zeros(shape), dist_reduce_fx="sum")
        self.add_state("lowest", torch.full(shape, float("inf")), dist_reduce_fx="min")
        self.add_state("highest", torch.full(shape, float("-inf")), dist_reduce_fx="max")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch of predictions and targets, (B,) or (B, T) each."""
        count = len(targets)
        predictions, targets = (
            values.to(self.moments).reshape(count, -1) for values in (predictions, targets)
        )
        variance, mean = torch.var_mean(targets, dim=0, correction=0)
        batch = torch.stack([torch.full_like(mean, count), mean, variance * count])
        self.moments = merge(self.moments, batch)
        self.error = self.error + (predictions - targets).square().sum(dim=0)
        lowest, highest = targets.aminmax(dim=0)
        self.lowest = torch.minimum(self.lowest, lowest)
        self.highest = torch.maximum(self.highest, highest)

    def compute(self) -> Tensor | None:
        """The coefficient as a scalar, at most 1; None if it is undefined."""
        self.is_defined = bool((self.lowest < self.highest).all())
        return (1 - self.error / self.moments[2]).mean() if self.is_defined else None

    def sync(self, *args: Any, **options: Any) -> None:
        """Gather the states of all processes, but only once.

        Torchmetrics does not cache None, and a single process may ask for the value again.
        """
        if self.is_defined:
            super().sync(*args, **options)

    def reset(self) -> None:
        """Forget all samples."""
        super().reset()
        self.is_defined = True


def merge(some: Tensor, others: Tensor) -> Tensor:
    """Merge count, mean and sum of squared deviations (3, T) of two groups of samples."""
    count, mean, _ = some.unbind()
    more, other_mean, _ = others.unbind()
    gap = other_mean - mean
    fraction = more / (count + more).clamp(min=1)
    shift = gap * fraction
    return some + torch.stack([more, shift, others[2] + gap * shift * count])


def merge_all(groups: Tensor) -> Tensor:
    """Merge the groups of all processes (P, 3, T)."""
    return reduce(merge, groups)
