"""Which metrics were measured just now, and which are left over from an earlier epoch."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor


class FreshMetrics(Callback):
    """A callback that can tell new metrics from old ones.

    `trainer.callback_metrics` keeps a value until the metric is measured again. With
    `trainer.check_val_every_n_epoch=2`, every second epoch would show the validation of the epoch
    before it.
    """

    # A metric that is measured again is another tensor.
    _before_epoch: dict[str, Tensor] = {}  # noqa: RUF012 - never changed in place
    _before_validation: dict[str, Tensor] = {}  # noqa: RUF012

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the values of earlier epochs."""
        self._before_epoch = dict(trainer.callback_metrics)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the values from before this validation."""
        self._before_validation = dict(trainer.callback_metrics)

    def measured_in_epoch(self, trainer: Trainer) -> dict[str, Tensor]:
        """The metrics that were measured since the epoch began."""
        return _changed(trainer.callback_metrics, self._before_epoch)

    def measured_in_validation(self, trainer: Trainer) -> dict[str, Tensor]:
        """The metrics of the validation that has just ended."""
        return _changed(trainer.callback_metrics, self._before_validation)


def _changed(now: dict[str, Any], before: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in now.items() if value is not before.get(name)}
