"""A linear classifier on frozen features, which measures how informative they are."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.models.precision import only_move


class LinearProbe(nn.Module):
    """Ridge regression onto the classes, which has a closed form: no steps, no learning rate.

    Shapes: (B, features) to (B, num_classes).

    Args:
        features: width of the features.
        num_classes: number of classes.
        decay: weight decay, relative to the variance of the features.
    """

    def __init__(self, features: int, num_classes: int, decay: float = 1e-3) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.decay = decay
        # Buffers, because they are saved with the model but not optimized.
        self.register_buffer("weight", torch.zeros(features, num_classes))
        self.register_buffer("bias", torch.zeros(num_classes))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Stays in float32, whatever the precision of the network.
        return super()._apply(only_move(fn), recurse)

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Fit to features x (N, features) and classes y (N,)."""
        x, wanted = x.float(), F.one_hot(y, len(self.bias)).float()
        mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
        scaled = (x - mean) / std
        covariance = scaled.T @ scaled / len(x)
        covariance.diagonal().add_(self.decay)
        solution = torch.linalg.solve(covariance, scaled.T @ wanted / len(x))
        # In place, because a later load cannot write to tensors made in inference mode.
        self.weight.copy_(solution / std[:, None])
        self.bias.copy_(wanted.mean(dim=0) - mean @ self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores; the highest is the prediction."""
        return x.float() @ self.weight + self.bias
