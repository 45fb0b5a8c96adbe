"""One line per epoch in the run's log file."""

import logging
import time

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from .epoch_end import EpochEndCallback
from .timing import EpochTimer

log = logging.getLogger(__name__)


class EpochLog(EpochEndCallback):
    """Writes epoch, seconds and metrics as one line, readable in a file as on a terminal."""

    def __init__(self) -> None:
        self._started = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._started = time.perf_counter()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        seconds = time.perf_counter() - self._started
        metrics = self.epoch_metrics(trainer)
        text = "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        pace = next((f"{c.pace}  " for c in trainer.callbacks if isinstance(c, EpochTimer)), "")
        log.info("epoch %d%s  %.1f s  %s%s", trainer.current_epoch + 1, last, seconds, pace, text)
