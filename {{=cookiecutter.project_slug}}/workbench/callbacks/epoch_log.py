"""One line per epoch in the run's log file."""

import logging
import math
import time
from collections.abc import Mapping

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from ..runs.summary import without_forks
from .epoch_end import EpochEndCallback
from .last_checkpoint import is_within_epoch
from .timing import EpochTimer

log = logging.getLogger(__name__)


class EpochLog(EpochEndCallback):
    """Writes epoch, seconds and metrics as one line, readable in a file as on a terminal."""

    def __init__(self) -> None:
        self._started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time: an epoch that is resumed has no other start."""
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        super().on_train_epoch_start(trainer, pl_module)
        self._started = time.perf_counter()

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write a line for a validation within an epoch."""
        if is_within_epoch(trainer):
            known = math.isfinite(trainer.num_training_batches)
            total = f"/{trainer.num_training_batches}" if known else ""
            batches = f"after {trainer.fit_loop.batch_idx + 1}{total}"
            metrics = _text(self.measured_in_validation(trainer))
            log.info("%s  %s batches  %s", _epoch(trainer), batches, metrics)

    @rank_zero_only
    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the line."""
        seconds = time.perf_counter() - self._started
        paces = [c.pace for c in trainer.callbacks if isinstance(c, EpochTimer) and c.pace]
        pace = "".join(f"{text}  " for text in paces)
        metrics = _text(self.measured_in_epoch(trainer))
        log.info("%s  %.1f s  %s%s", _epoch(trainer), seconds, pace, metrics)


def _epoch(trainer: Trainer) -> str:
    last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
    return f"epoch {trainer.current_epoch + 1}{last}"


def _text(metrics: Mapping[str, Tensor]) -> str:
    names = without_forks(sorted(metrics))
    return "  ".join(f"{name} {float(metrics[name]):.4g}" for name in names)
