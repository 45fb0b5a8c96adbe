"""Reads what Lightning's documentation says is there."""

import json
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class Reader(Callback):
    """Notes the metrics, the best checkpoint and early stopping at the ends of epochs."""

    def __init__(self, path: str) -> None:
        self.path, self.seen = Path(path), {"validation": [], "train": []}

    def note(self, trainer: Trainer, hook: str) -> None:
        if trainer.sanity_checking:
            return
        best, stopping = trainer.checkpoint_callback, trainer.early_stopping_callback
        row: dict[str, Any] = {name: float(v) for name, v in trainer.callback_metrics.items()}
        row["epoch"] = trainer.current_epoch
        row["best"] = best.best_model_path if best else None
        row["monitor"] = best.monitor if best else None
        row["patience"] = stopping.patience if stopping else None
        self.seen[hook].append(row)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note(trainer, "validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.note(trainer, "train")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        best = trainer.checkpoint_callback
        self.seen["last"] = [best.best_model_path if best else None]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.seen), "utf-8")
