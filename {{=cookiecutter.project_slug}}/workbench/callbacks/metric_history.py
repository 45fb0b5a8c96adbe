"""The metrics of every epoch, kept over a resume."""

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from .epoch_end import EpochEndCallback
from .last_checkpoint import is_within_epoch


class MetricHistory(EpochEndCallback):
    """Collects one row of metrics per epoch; `run.json` and the loss curves are made from it.

    Attributes:
        rows: one dictionary per epoch: `epoch` (from 0), `step` and every metric measured in it.
        within: one per validation within an epoch, with the `share` of the epoch before it where
            the length of an epoch is known.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self.within: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of a validation within an epoch."""
        if is_within_epoch(trainer):
            row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
            if math.isfinite(trainer.num_training_batches):
                row["share"] = (trainer.fit_loop.batch_idx + 1) / trainer.num_training_batches
            metrics = self.measured_in_validation(trainer)
            self.within.append(row | {name: float(value) for name, value in metrics.items()})

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of this epoch."""
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self.rows.append(row | self.epoch_metrics(trainer))

    def best(self, metric: str | None, mode: str) -> dict[str, float]:
        """The row where `metric` was best; empty where it was never a number."""
        if metric is None:
            return {}
        rows = [row for row in self.in_order() if math.isfinite(row.get(metric, math.nan))]
        choose = max if mode == "max" else min
        return choose(rows, key=lambda row: row[metric]) if rows else {}

    def in_order(self) -> list[dict[str, float]]:
        """All rows, in the order of their steps."""
        return sorted(self.rows + self.within, key=lambda row: row["step"])

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows, "within": self.within}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows."""
        self.rows, self.within = list(state_dict["rows"]), list(state_dict["within"])
