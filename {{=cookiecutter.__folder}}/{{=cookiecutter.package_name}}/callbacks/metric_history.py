"""The metrics of every epoch, kept over a resume."""

import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from .epoch_end import EpochEndCallback


class MetricHistory(EpochEndCallback):
    """Collects one row of metrics per epoch; `run.json` and the loss curves are made from it.

    Attributes:
        rows: one dictionary per epoch: `epoch` (from 0), `step` and every metric logged.
    """

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the row of this epoch."""
        row = {"epoch": trainer.current_epoch, "step": trainer.global_step}
        self.rows.append(row | self.epoch_metrics(trainer))

    def best(self, metric: str, mode: str) -> dict[str, float]:
        """The row where `metric` was best; empty where it was never a number."""
        rows = [row for row in self.rows if math.isfinite(row.get(metric, math.nan))]
        choose = max if mode == "max" else min
        return choose(rows, key=lambda row: row[metric]) if rows else {}

    def state_dict(self) -> dict[str, Any]:
        """The rows, for the checkpoint."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved."""
        self.rows = list(state_dict["rows"])
