"""Stops a training that no longer improves."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer, callbacks
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from ..runs.ending import Cause, Ending, EndsTraining
from .fresh_metrics import FreshMetrics
from .steady_key import SteadyKey


class EarlyStopping(EndsTraining, FreshMetrics, SteadyKey, callbacks.EarlyStopping):
    """Lightning's EarlyStopping, which counts each value once and says why it stopped.

    `patience` counts measurements: validations for a validation metric, wherever they take place,
    and epochs for a training metric.

    Attributes:
        best_epoch: the epoch of the best value, from 1.
    """

    best_epoch = 0
    _is_validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check a metric that this validation has measured."""
        if not self._should_skip_check(trainer) and self.monitor in self.measured_in_validation(
            trainer
        ):
            self._is_validated = True
            self._run_early_stopping_check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check a metric of the training."""
        if not self._is_validated and self.monitor in self.measured_in_epoch(trainer):
            self._run_early_stopping_check(trainer)

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        best_score, was_stopping = self.best_score, trainer.should_stop
        super()._run_early_stopping_check(trainer)
        if self.best_score is not best_score:
            self.best_epoch = trainer.current_epoch + 1
        if trainer.should_stop and not was_stopping:
            self.ending = Ending(Cause.EARLY_STOPPING, self._reason())

    def _reason(self) -> str:
        if self.stopping_reason is not EarlyStoppingReason.PATIENCE_EXHAUSTED:
            return str(self.stopping_reason_message).removesuffix(" Signaling Trainer to stop.")
        unit = "validations" if self._is_validated else "epochs"
        best = f"its best value is {float(self.best_score):.6g}, in epoch {self.best_epoch}"
        return (
            f"{self.monitor} has not improved in {self.wait_count} {unit} "
            f"(patience={self.patience}); {best if self.best_epoch else 'it was never finite'}"
        )

    def state_dict(self) -> dict[str, Any]:
        """What is counted, for the checkpoint."""
        return super().state_dict() | {
            "best_epoch": self.best_epoch,
            "is_validated": self._is_validated,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting, with the patience of this run."""
        super().load_state_dict(state_dict | {"patience": self.patience})
        self.best_epoch = state_dict["best_epoch"]
        self._is_validated = state_dict["is_validated"]
