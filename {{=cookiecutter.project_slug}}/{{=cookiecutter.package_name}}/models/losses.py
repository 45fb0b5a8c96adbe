"""Losses by name.

To add your own, write it here and give it a line in `LOSSES`, or name its class with `_target_` in
the config.

A loss is a module of (outputs, y), a scalar mean over the batch. Its targets are class numbers
(B,), labels (B, L) of 0 and 1, or standardised values (B,) or (B, T) with outputs of that shape.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import UserError, cannot_build, nearest
from workbench.models.precision import only_move

BALANCED = "balanced"
Loss = Mapping[str, Any] | nn.Module


class ClassLoss(nn.Module):
    """A loss whose classes have weights.

    Args:
        class_weight: one for each class; None weighs all alike.
        label_smoothing: fraction of a target's probability that goes to all classes alike.
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
    """Cross-entropy in nats of logits (B, C); with class weights the weighted mean."""

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Loss of a batch."""
        return F.cross_entropy(outputs, y, self.weight, label_smoothing=self.label_smoothing)

    def batch_weight(self, y: Tensor) -> float | Tensor:
        """The sum of the samples' weights, by which the batch's loss was divided."""
        return len(y) if self.weight is None else self.weight[y].sum()


class BinaryCrossEntropy(ClassLoss):
    """Binary cross-entropy in nats of logits (B, L); a weight applies where the label is 1."""

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
    """Squared for errors up to `delta` standard deviations, linear beyond: robust to outliers."""

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
        quantiles: between 0 and 1, in ascending order; a single one may stand for itself.
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


# The first one of a task is its default.
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


def build_loss(
    spec: Loss | None, task: str, num_classes: int = 0, class_counts: Sequence[Any] | None = None
) -> nn.Module:
    """Build the loss that `spec` names.

    Args:
        spec: `name` ("auto" for the default of the task) and the options of that loss, of which
            those that are None count as not given; or a loss, which is returned as it is.
        task: "classification", "multilabel" or "regression".
        num_classes: number of classes or labels.
        class_counts: training samples of each class, or [without, with] of each label.

    Raises:
        UserError: the task has no such loss, or the loss no such option.
    """
    if isinstance(spec, nn.Module):
        return spec
    options = {key: value for key, value in (spec or {}).items() if value is not None}
    if "class_weight" in options:
        weights = class_weights(options["class_weight"], class_counts, num_classes)
        options["class_weight"] = weights
    known = LOSSES[task]
    name = str(options.pop("name", "auto"))
    name = next(iter(known)) if name == "auto" else name
    if name not in known:
        raise UserError(f"There is no loss {name!r} for {task}; {nearest(name, known)}")
    try:
        return known[name](**options)
    except (TypeError, ValueError) as error:
        raise cannot_build("loss", name, options, error) from error


def class_weights(
    weights: str | Sequence[float], counts: Sequence[Any] | None, num_classes: int
) -> list[float]:
    """The weights of the classes, as numbers.

    Args:
        weights: one for each class, or "balanced".
        counts: training samples of each class, or [without, with] of each label.
        num_classes: number of classes or labels.

    Raises:
        UserError: not one positive number for each class, or "balanced" without counts.
    """
    if isinstance(weights, str):
        if weights != BALANCED:
            raise UserError(
                f"model.loss.class_weight is {BALANCED} or a list of numbers, not {weights!r}."
            )
        if counts is None:
            raise UserError(
                "model.loss.class_weight=balanced requires class_counts, the training samples of "
                "each class: define this attribute in the datamodule's setup(), or list the "
                "weights."
            )
        return balanced(counts)
    found = [float(weight) for weight in weights]
    if len(found) != num_classes or not all(0 < weight < float("inf") for weight in found):
        raise UserError(
            f"model.loss.class_weight needs one positive number for each of the {num_classes} "
            f"classes, not {found}."
        )
    return found


def balanced(counts: Sequence[Any]) -> list[float]:
    """Weights with which each class, or each value of a label, counts alike.

    A class without training samples has the weight 1.
    """
    if isinstance(counts[0], Sequence):
        return [without / with_ if without and with_ else 1.0 for without, with_ in counts]
    present = [count for count in counts if count]
    mean = sum(present) / len(present)
    return [mean / count if count else 1.0 for count in counts]
