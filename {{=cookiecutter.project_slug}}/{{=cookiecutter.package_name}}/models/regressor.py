"""Regression from table rows or images."""

import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.errors import UserError
from workbench.models.metrics import Spec, regression_metrics
from workbench.models.regression_metrics import R2
from workbench.models.supervised import SupervisedModule

from .losses import Loss, QuantileLoss, build_loss
from .nets import Net, build_net, parts_of

log = logging.getLogger(__name__)


class Regressor(SupervisedModule):
    """A network with one output per target, trained by squared error on standardised targets.

    Targets arrive standardised, since 32 bits cannot tell 1,700,000,000 from 1,700,000,060.
    Outputs are standardised as well; `in_target_unit` converts both. Metrics that have a unit are
    in the target's own.

    With the quantile loss, the network has one output for each quantile of each target.

    The first five arguments come from the configs, the others from the datamodule.

    Args:
        net: `name` and options of the network, or the network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        loss: `name` and options of the loss, see `losses.py`, or the loss; None for the squared
            error.
        metrics: names, or dictionaries of `name` and options, see `metrics.py`; None for the mean
            absolute error and R2.
        input_shape: shape of one sample, (num_features,) or (C, H, W).
        target_name: what is predicted; a list of several.
        target_mean: what the datamodule subtracted from the target; a list for several.
        target_std: what it divided the difference by; a list for several.
        task: "regression"; anything else is rejected.
        preprocessing: how a raw table row or image becomes an input.
    """

    task = "regression"
    tasks = ("regression",)

    def __init__(
        self,
        net: Net,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        input_shape: Sequence[int],
        loss: Loss | None = None,
        metrics: Sequence[Spec] | None = None,
        target_name: str | Sequence[str] = "target",
        target_mean: float | Sequence[float] = 0.0,
        target_std: float | Sequence[float] = 1.0,
        task: str = "regression",
        preprocessing: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if task not in self.tasks:
            raise UserError(
                f"The data are a {task} task and {type(self).__name__} does regression: choose "
                "another model group, for example model=mlp."
            )
        self.save_hyperparameters(ignore=parts_of(net=net, loss=loss), logger=False)
        self.loss_function = build_loss(loss, self.task)
        self.target_names = [str(name) for name in _listed(target_name)]
        self.output_names = [
            f"{target}{suffix}" for target in self.target_names for suffix in self._suffixes()
        ]
        self.net = build_net(net, input_shape, len(self.output_names))
        units = _listed(target_mean), _listed(target_std)
        self.add_metrics(regression_metrics(metrics, self.target_names, *units))
        self._left_out: set[str] = set()

    @property
    def quantiles(self) -> list[float]:
        """The quantiles that are predicted; none if a mean or median is."""
        return self.loss_function.quantiles if isinstance(self.loss_function, QuantileLoss) else []

    def _suffixes(self) -> list[str]:
        return [f"_q{quantile:g}" for quantile in self.quantiles] or [""]

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss in standard deviations; outputs (B, outputs), y (B,) or (B, T)."""
        # (B, 1) beside (B,) would broadcast to (B, B).
        outputs = outputs.reshape(y.shape) if outputs.numel() == y.numel() else outputs
        loss: Tensor = self.loss_function(outputs, y)
        return loss

    def predict(self, outputs: Tensor) -> Tensor:
        """Standardised predictions: (B,) if there is one, else (B, T * Q), targets outermost."""
        if len(self.quantiles) > 1:
            # Nothing else keeps a network from predicting more for 10 % than for 20 %.
            outputs = (
                outputs.unflatten(-1, (-1, len(self.quantiles))).sort(dim=-1).values.flatten(-2)
            )
        return outputs.squeeze(-1) if len(self.output_names) == 1 else outputs

    def point(self, predictions: Tensor) -> Tensor:
        """The prediction of each target, (B,) or (B, T): of several quantiles the middle one."""
        if len(self.quantiles) < 2:
            return predictions
        distances = [abs(quantile - 0.5) for quantile in self.quantiles]
        middle = distances.index(min(distances))
        points = predictions.unflatten(-1, (-1, len(self.quantiles)))[..., middle]
        return points.squeeze(-1) if len(self.target_names) == 1 else points

    def in_target_unit(self, values: Tensor) -> Tensor:
        """Standardised targets or predictions in the target's own unit, as float64.

        Move the values to the CPU before: Apple's GPUs have no float64.
        """
        values = values.double()
        # Tensors, because an exported model keeps plain numbers in 32 bits.
        std, mean = (
            values.new_tensor(self.hparams[name]) for name in ("target_std", "target_mean")
        )
        if std.dim() and values.shape[-1] != len(std):
            std, mean = (of.repeat_interleave(len(self.quantiles)) for of in (std, mean))
        return values * std + mean

    def on_train_epoch_end(self) -> None:
        """Report an R2 that is not logged."""
        super().on_train_epoch_end()
        self._report_undefined("train")

    def on_validation_epoch_end(self) -> None:
        """Report an R2 that is not logged."""
        super().on_validation_epoch_end()
        # Lightning's check before the training sees a part of the split only.
        if not self.trainer.sanity_checking:
            self._report_undefined("val")

    def on_test_epoch_end(self) -> None:
        """Report an R2 that is not logged."""
        super().on_test_epoch_end()
        self._report_undefined("test")

    def _report_undefined(self, stage: str) -> None:
        """Say once that a metric is left out.

        Raises:
            UserError: a callback needs it.
        """
        for name, metric in self._metrics_of(stage).items():
            if not isinstance(metric, R2) or name in self._left_out:
                continue
            if metric.compute() is None:
                self._left_out.add(name)
                self._warn_undefined(name)

    def _warn_undefined(self, name: str) -> None:
        reason = f"{name} is undefined for fewer than two different targets"
        if any(getattr(part, "monitor", None) == name for part in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError(
                f"{reason}, so it cannot be the objective: choose a larger split or "
                "objective.metric=val/loss."
            )
        log.warning("%s and is left out", reason)


def _listed(value: Any) -> list[Any]:
    """One value or several, as a list."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
