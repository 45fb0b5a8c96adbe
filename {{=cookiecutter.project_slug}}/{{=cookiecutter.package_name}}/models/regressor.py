"""Regression from table rows or images."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.models.by_name import Loss, Net, build_loss, build_net, parts_of
from workbench.models.metrics import Spec, regression_metrics
from workbench.models.supervised import SupervisedModule, check_task

from .losses import LOSSES, QuantileLoss
from .nets import NETS


class Regressor(SupervisedModule):
    """A network with one output per target, trained by squared error on standardised targets.

    Targets arrive standardised, because float32 cannot tell 1,700,000,000 from 1,700,000,060.
    Outputs are standardised as well; `in_target_unit` converts both. Metrics that have a unit are
    in the target's own.

    With the quantile loss, the network has one output for each quantile of each target.

    The arguments up to `metrics` come from the configs, the others from the datamodule.

    Args:
        net: `name` and options of a network in `nets/`, or a network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        loss: `name` and options of a loss in `losses.py`, or a loss; None for the squared error.
        metrics: names, or dictionaries of `name` and options, of torchmetrics; None for the mean
            absolute error and R2.
        input_shape: shape of one sample, (num_features,) or (C, H, W).
        target_name: what is predicted; a list for several targets.
        target_mean: what the datamodule subtracted from the target; a list for several targets.
        target_std: what it divided the difference by; a list for several targets.
        task: "regression".
        preprocessing: how a raw table row or image becomes an input.

    Raises:
        UserError: another task, or a network, loss or metric that does not exist.
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
        check_task(type(self), task)
        self.save_hyperparameters(ignore=parts_of(net=net, loss=loss), logger=False)
        self.loss_function = build_loss(LOSSES, loss, self.task)
        is_quantile = isinstance(self.loss_function, QuantileLoss)
        self.quantiles: list[float] = self.loss_function.quantiles if is_quantile else []
        self.target_names = [str(name) for name in _listed(target_name)]
        suffixes = [f"_q{quantile:g}" for quantile in self.quantiles] or [""]
        self.output_names = [f"{name}{suffix}" for name in self.target_names for suffix in suffixes]
        self.net = build_net(NETS, net, input_shape, len(self.output_names), preprocessing)
        units = _listed(target_mean), _listed(target_std)
        self.add_metrics(regression_metrics(metrics, self.target_names, *units))

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss in standard deviations; outputs (B, outputs), y (B,) or (B, T)."""
        # (B, 1) beside (B,) would broadcast to (B, B).
        outputs = outputs.reshape(y.shape) if outputs.numel() == y.numel() else outputs
        loss: Tensor = self.loss_function(outputs, y)
        return loss

    def predict(self, outputs: Tensor) -> Tensor:
        """Standardised predictions: (B,) for one output, else (B, T * Q), targets outermost."""
        if len(self.quantiles) > 1:
            # Sorted, because nothing else keeps the 10 % quantile below the 20 % quantile.
            by_target = outputs.unflatten(-1, (-1, len(self.quantiles)))
            outputs = by_target.sort(dim=-1).values.flatten(-2)
        return outputs.squeeze(-1) if len(self.output_names) == 1 else outputs

    def point(self, predictions: Tensor) -> Tensor:
        """The prediction for each target, (B,) or (B, T): of several quantiles, the middle one."""
        if len(self.quantiles) < 2:
            return predictions
        distances = [abs(quantile - 0.5) for quantile in self.quantiles]
        middle = distances.index(min(distances))
        points = predictions.unflatten(-1, (-1, len(self.quantiles)))[..., middle]
        return points.squeeze(-1) if len(self.target_names) == 1 else points

    def in_target_unit(self, values: Tensor) -> Tensor:
        """Standardised targets or predictions in the target's own unit, as float64.

        Move the values to the CPU first: Apple GPUs have no float64.
        """
        values = values.double()
        # Tensors, because ONNX would store plain numbers in float32.
        std, mean = (
            values.new_tensor(self.hparams[name]) for name in ("target_std", "target_mean")
        )
        if std.dim() and values.shape[-1] != len(std):
            std, mean = (of.repeat_interleave(len(self.quantiles)) for of in (std, mean))
        return values * std + mean


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
