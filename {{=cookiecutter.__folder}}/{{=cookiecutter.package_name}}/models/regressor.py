"""Regression from table rows or images."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torchmetrics import MeanAbsoluteError, R2Score

from .nets import build_net
from .supervised import SupervisedModule


class Regressor(SupervisedModule):
    """A network with one output, trained by squared error on the standardised target.

    Metrics and predictions are in the target's own unit; only the loss is standardised.

    The first three arguments come from the configs, the others from the datamodule. All are plain
    values, so `Regressor.load_from_checkpoint(path)` needs nothing else.

    Args:
        net: `name` and options of the network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        input_shape: shape of one sample, (num_features,) or (C, H, W).
        target_name: what is predicted.
        target_mean: its mean over the training part.
        target_std: its standard deviation over the training part.
        preprocessing: how a raw table row or picture becomes an input.
    """

    task = "regression"

    def __init__(
        self,
        net: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        input_shape: list[int],
        target_name: str,
        target_mean: float,
        target_std: float,
        preprocessing: dict[str, Any],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = build_net(net, input_shape, num_outputs=1)
        self.target_mean = target_mean
        self.target_std = target_std
        self.add_metrics({"mae": MeanAbsoluteError(), "r2": R2Score()})

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean squared error in standard deviations; outputs (B, 1), y (B,)."""
        return F.mse_loss(outputs.squeeze(-1), (y - self.target_mean) / self.target_std)

    def predict(self, outputs: Tensor) -> Tensor:
        """Targets in their own unit, (B,)."""
        return outputs.squeeze(-1) * self.target_std + self.target_mean
