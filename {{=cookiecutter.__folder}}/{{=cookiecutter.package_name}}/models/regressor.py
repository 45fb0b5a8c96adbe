"""Regression from table rows or images."""

import logging
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from ..errors import UserError
from .nets import build_net
from .regression_metrics import R2, ScaledMeanAbsoluteError
from .supervised import SupervisedModule

log = logging.getLogger(__name__)


class Regressor(SupervisedModule):
    """A network with one output, trained by squared error on standardised targets.

    Targets arrive standardised, since 32 bits cannot tell 1,700,000,000 from 1,700,000,060.
    Outputs are standardised as well; `in_target_unit` converts both. R2 is the same in any unit,
    and the mean absolute error is scaled back to the target's own.

    The first three arguments come from the configs, the others from the datamodule. All are plain
    values, so `Regressor.load_from_checkpoint(path)` needs nothing else.

    Args:
        net: `name` and options of the network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        input_shape: shape of one sample, (num_features,) or (C, H, W).
        target_name: what is predicted.
        target_mean: what the datamodule subtracted from the target; 0 if nothing.
        target_std: what it divided the difference by; 1 if by nothing.
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
        self.add_metrics({"mae": ScaledMeanAbsoluteError(target_std), "r2": R2()})
        self._left_out: set[str] = set()

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean squared error in standard deviations; outputs (B, 1), y (B,)."""
        return F.mse_loss(outputs.squeeze(-1), y)

    def predict(self, outputs: Tensor) -> Tensor:
        """Standardised targets, (B,)."""
        return outputs.squeeze(-1)

    def epoch_values(self, stage: str) -> dict[str, Tensor]:
        """The loss and the metrics of a stage's epoch, without an R2 that is undefined."""
        values = super().epoch_values(stage)
        for name, metric in self.metrics[f"{stage}_metrics"].items(copy_state=False):  # type: ignore[operator]
            if isinstance(metric, R2) and not metric.is_defined:
                del values[name]
                self._report_undefined(name)
        return values

    def _report_undefined(self, name: str) -> None:
        """Log once that a metric is left out.

        Raises:
            UserError: a callback needs it.
        """
        # Lightning's check before the training sees a part of the split only.
        if self.trainer.sanity_checking or name in self._left_out:
            return
        self._left_out.add(name)
        reason = f"{name} is undefined for fewer than two different targets"
        if any(getattr(part, "monitor", None) == name for part in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError(
                f"{reason}, so it cannot be the objective: choose a larger split or "
                "objective.metric=val/loss."
            )
        log.warning("%s and is left out", reason)
