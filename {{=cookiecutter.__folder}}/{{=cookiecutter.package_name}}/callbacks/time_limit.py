"""Stop in time, so that a cluster does not stop the run in the middle."""

import logging
import math
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, Timer

from ..shell import option
from .timing import EpochClock, clock_time, epochs_left

log = logging.getLogger(__name__)

# Epochs take longer when others use the machine too.
MARGIN = 1.2
# Seconds for what is no training: the start, the first look at the data and the test.
START_AND_TEST = 120


class TimeLimit(Timer):
    """Lightning's Timer, which gives a resumed run its whole time and stops between two epochs.

    Lightning adds the time of the runs before, so that a job that goes on with the same limit
    would stop at once. And it stops in the middle of an epoch, whose other batches are then never
    trained: the next run takes the epoch for a whole one. This one stops after the last epoch
    that leaves time for another, and in mid-epoch only when an epoch takes longer than those
    before. Then it says what to ask the cluster for to train the epochs that are left.

    Args:
        duration: days:hours:minutes:seconds of training, for example "00:08:00:00"; None for no
            limit.
    """

    def __init__(self, duration: str | dict[str, int] | None = None) -> None:
        super().__init__(duration, interval="step", verbose=False)
        self._clock = EpochClock()
        self._left: int | None = None
        self._has_stopped = False
        self._share = 1.0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget the time of the runs before."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring the epoch."""
        self._clock.start()

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop in mid-epoch when the time is over."""
        was_stopping = trainer.should_stop
        super().on_train_batch_end(trainer, *args, **kwargs)
        self._has_stopped = self._has_stopped or (trainer.should_stop and not was_stopping)
        if self._has_stopped and not trainer.is_last_batch:
            trained, planned = trainer.fit_loop.batch_idx + 1, trainer.num_training_batches
            self._share = trained / planned
            log.warning(
                "the time limit ends epoch %d after %d of %s batches; the next run starts with the "
                "epoch after it",
                trainer.current_epoch + 1,
                trained,
                planned,
            )

    def on_train_epoch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop when another epoch would not fit."""
        self._clock.stop(self._share)
        self._left = epochs_left(trainer)
        remaining = self.time_remaining()
        if remaining is None or self._left == 0:
            return
        fits = remaining >= MARGIN * max(self._clock.seconds)
        if trainer.strategy.broadcast(not fits):
            self._has_stopped = trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how to go on."""
        super().on_train_end(trainer, pl_module)
        if not self._has_stopped or self._left == 0:
            return
        log.info("stopped by the time limit after %d epochs", trainer.current_epoch)
        if checkpoint := _last_checkpoint(trainer):
            log.info("go on with %s", option("ckpt_path", checkpoint))
        if self._left is not None:
            needed = self._left * self._clock.per_epoch
            walltime = clock_time(60 * math.ceil((MARGIN * needed + START_AND_TEST) / 60))
            log.info(
                "the other %d epochs take about %s: ask for WALLTIME %s",
                self._left,
                clock_time(needed),
                walltime,
            )


def _last_checkpoint(trainer: Trainer) -> str:
    """The newest checkpoint to resume from; empty where none was saved."""
    callbacks = [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    paths = [callback.best_model_path for callback in callbacks if not callback.monitor]
    return next((path for path in reversed(paths) if path and Path(path).is_file()), "")
