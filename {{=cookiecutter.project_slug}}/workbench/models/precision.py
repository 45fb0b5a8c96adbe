"""At least float32 where half precision gives wrong results: metrics, losses and predictions.

With `trainer.precision=bf16-true` or `16-true`, all tensors of the model have 8 or 11 significant
bits. That is enough for weights, but 256 + 1 is 256 in bfloat16.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchmetrics import Metric

# Apple GPUs have no float64.
PRECISE = torch.float32 if torch.backends.mps.is_available() else torch.float64


class EpochMean(Metric):
    """The weighted mean of a value over an epoch, in all processes."""

    full_state_update = False
    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros((), dtype=PRECISE), dist_reduce_fx="sum")
        self.add_state("weight", torch.zeros((), dtype=PRECISE), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: float | Tensor) -> None:
        """Add the mean of a batch, a scalar; its weight is usually the number of samples."""
        self.total += value.detach().to(PRECISE) * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean; NaN without samples."""
        return self.total / self.weight


def at_least_float32(tensor: Tensor) -> Tensor:
    """A half-precision tensor as float32; any other as it is."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Create tensors as float32 at least, also in a half-precision step."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.promote_types(before, torch.float32))
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def apply_to_weights(
    model: nn.Module, apply: Callable[[], nn.Module], convert: Callable[[Tensor], Tensor]
) -> nn.Module:
    """Move or convert a model, but only move its metrics.

    Args:
        model: the model.
        apply: converts all tensors of the model.
        convert: what `apply` does to each tensor.
    """
    owners = [module for module in model.modules() if not isinstance(module, Metric)]
    places = [
        (owner, name, child)
        for owner in owners
        for name, child in owner.named_children()
        if isinstance(child, Metric)
    ]
    for owner, name, _ in places:
        owner._modules[name] = None
    try:
        return apply()
    finally:
        for owner, name, metric in places:
            owner._modules[name] = metric
            metric._apply(only_move(convert))


def only_move(convert: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The part of a conversion that changes the device of a tensor but not its dtype."""

    def move(tensor: Tensor) -> Tensor:
        # On an empty tensor, because rounding cannot be undone.
        return tensor.to(convert(tensor.new_empty(0)).device)

    return move
