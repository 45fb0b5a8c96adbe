"""Metrics that are updated in every step and logged once per epoch.

`self.log` of two metrics in every step takes a millisecond, as long as a step of a small network.
"""

from typing import Any

from torch import Tensor

from .base import BaseModule

STAGES = ("train", "val", "test")


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


class SharedStep(EpochLogging):
    """A model whose steps differ only in the metrics that they update."""

    def shared_step(self, batch: Any, stage: str) -> Tensor:
        """The loss of a batch; also updates the metrics of "train", "val" or "test"."""
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """One optimization step."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """One batch of the validation split."""
        self.shared_step(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """One batch of the test split."""
        self.shared_step(batch, "test")
