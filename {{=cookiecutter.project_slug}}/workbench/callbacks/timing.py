"""How fast training goes and how long it will take."""

import math
import statistics
import time
from collections import deque
from datetime import timedelta
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from .epoch_end import EpochEndCallback
from .nested import tensors

# The machine may get slower or faster: only the last epochs tell of the next.
REMEMBERED = 5


class EpochClock:
    """Seconds per epoch, as the median of the last ones: the first is often slow."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=REMEMBERED)
        # Lightning gives an epoch that a checkpoint cut in two no second start.
        self._started = time.perf_counter()

    def start(self) -> None:
        """An epoch begins."""
        self._started = time.perf_counter()

    def stop(self, share: float = 1.0) -> float:
        """An epoch ends; the seconds since it began.

        Args:
            share: part of the epoch that was trained, for one that was cut off.
        """
        seconds = time.perf_counter() - self._started
        self.seconds.append(seconds / share if share else seconds)
        return seconds

    @property
    def per_epoch(self) -> float:
        """Seconds that an epoch takes at present."""
        return statistics.median(self.seconds)


def epochs_left(trainer: Trainer) -> int | None:
    """Epochs still to come at the end of an epoch, None where no end is set."""
    done, limits = trainer.current_epoch + 1, []
    if trainer.max_epochs not in (None, -1):
        limits.append(trainer.max_epochs - done)
    if trainer.max_steps != -1 and trainer.global_step:
        left = trainer.max_steps - trainer.global_step
        limits.append(math.ceil(left * done / trainer.global_step))
    return max(min(limits), 0) if limits else None


def count_samples(batch: Any) -> int:
    """Samples in a batch, as Lightning counts them: the length of the first tensor in it."""
    first = next(tensors(batch), None)
    if first is None:
        return 0
    return 1 if first.ndim == 0 else first.size(0)


def clock_time(seconds: float) -> str:
    """Seconds as hours:minutes:seconds, the hours without a limit as batch systems want them."""
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


class EpochTimer(EpochEndCallback):
    """Measures seconds and samples per second of an epoch, and estimates the time left.

    The loggers get `time/epoch_seconds`, of training and validation, and
    `time/samples_per_second`, of training alone and in all processes together; the epoch's line
    in the log gets the speed and the time left.

    Attributes:
        pace: what the epoch's line says.
    """

    def __init__(self) -> None:
        self.pace = ""
        self._clock = EpochClock()
        self._validation = EpochClock()
        self._samples = 0
        self._validation_seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring."""
        self._clock.start()
        self._samples = 0
        self._validation_seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples."""
        self._samples += count_samples(batch)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring what is no training."""
        self._validation.start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up what is no training."""
        self._validation_seconds += self._validation.stop()

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was measured."""
        seconds = self._clock.stop()
        training = seconds - self._validation_seconds
        if training <= 0:
            return
        speed = self._samples * trainer.world_size / training
        left = epochs_left(trainer)
        # A batch without a tensor has no size that could be known.
        words = [f"{speed:.0f} samples/s"] if self._samples else []
        if left:
            # Early stopping may end the run before.
            rest = timedelta(seconds=math.ceil(left * self._clock.per_epoch))
            words.append(f"at most {rest} left")
        self.pace = "  ".join(words)
        metrics = {"time/epoch_seconds": seconds}
        if self._samples:
            metrics["time/samples_per_second"] = speed
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
