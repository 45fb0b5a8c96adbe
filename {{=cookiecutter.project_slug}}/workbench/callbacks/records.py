"""The numbers of a training: metrics of every epoch, loss and learning rate of single steps."""

import math
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ..floats import to_floats
from ..loggers.base import log_metrics
from .hooks import EpochEndCallback, is_within_epoch

LOSS = "train/loss_step"


class MetricHistory(EpochEndCallback):
    """Collects one row of metrics per epoch, for `run.json` and the loss curves.

    Attributes:
        rows: one dictionary per epoch: `epoch` (from 0), `step` and every metric measured in it.
        within: one per validation within an epoch, with the `fraction` of the epoch trained before
            it if the length of an epoch is known.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.within: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of a validation within an epoch."""
        if is_within_epoch(trainer):
            row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            if math.isfinite(trainer.num_training_batches):
                row["fraction"] = (trainer.fit_loop.batch_idx + 1) / trainer.num_training_batches
            self.within.append(row | to_floats(self.measured_in_validation(trainer)))

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of this epoch."""
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self.rows.append(row | to_floats(self.measured_in_epoch(trainer)))

    def best(self, metric: str | None, mode: str) -> dict[str, float]:
        """The row where `metric` was best; empty if it was never finite."""
        if metric is None:
            return {}
        rows = [row for row in self.in_order() if math.isfinite(row.get(metric, math.nan))]
        choose = max if mode == "max" else min
        return choose(rows, key=lambda row: row[metric]) if rows else {}

    def in_order(self) -> list[dict[str, float]]:
        """All rows, sorted by step."""
        return sorted(self.rows + self.within, key=lambda row: row["step"])

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows, "within": self.within}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows."""
        self.rows, self.within = list(state_dict["rows"]), list(state_dict["within"])


class StepLog(Callback):
    """Logs `train/loss_step` and `lr` every `trainer.log_every_n_steps` steps.

    With several optimizers the names of the rates end in the optimizer's number. The loss is what
    `training_step` returned, if anything.

    The loggers are called directly: `self.log` at every step takes about half of the time of
    training a small network, this takes none between two entries.
    """

    def __init__(self) -> None:
        self._last_step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log every n-th step."""
        # With several optimizers Lightning counts a step for each.
        step = trainer.global_step // max(len(trainer.optimizers), 1)
        # With gradient accumulation several batches share one step.
        every = trainer.log_every_n_steps
        if step == self._last_step or not every or step % every:
            return
        self._last_step = step
        metrics = learning_rates(trainer)
        loss = loss_of(outputs)
        # A model with `self.log("train/loss", loss, on_step=True, on_epoch=True)` logs it itself.
        if loss is not None and LOSS not in trainer.callback_metrics:
            # Lightning divides the loss by the number of batches per step, but only if it runs the
            # optimizer itself.
            batches = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            metrics[LOSS] = loss.item() * batches
        log_metrics(trainer, metrics)


def learning_rates(trainer: Trainer) -> dict[str, float]:
    """The rate of each optimizer's first parameter group."""
    rates = [float(optimizer.param_groups[0]["lr"]) for optimizer in trainer.optimizers]
    if len(rates) == 1:
        return {"lr": rates[0]}
    return {f"lr_{number}": rate for number, rate in enumerate(rates)}


def loss_of(outputs: Any) -> Tensor | None:
    """The loss that a training step returned, as a tensor or under the key `loss`; else None."""
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None
