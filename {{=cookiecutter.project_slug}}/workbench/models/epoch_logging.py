"""Metrics that are updated in every step and logged once per epoch.

`self.log` of two metrics in every step takes a millisecond, as long as a step of a small network.
"""

from .base import BaseModule


class EpochLogging(BaseModule):
    """A model with metrics of torchmetrics, which `log_metrics` passes to Lightning.

    That happens when an epoch begins, so that callbacks have the values when it ends.
    """

    def log_metrics(self, stage: str) -> None:
        """Have Lightning compute, log and reset the metrics of "train", "val" or "test"."""
        raise NotImplementedError

    def on_train_start(self) -> None:
        """Log the metrics of an epoch that a resumed run continues rather than starts."""
        if self.trainer.fit_loop.restarted_mid_epoch:
            self.log_metrics("train")

    def on_train_epoch_start(self) -> None:
        """Log the metrics of an epoch of training."""
        self.log_metrics("train")

    def on_validation_epoch_start(self) -> None:
        """Log the metrics of a validation."""
        self.log_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Log the metrics of a test."""
        self.log_metrics("test")
