"""What an epoch takes: time, and processor and memory of the machine."""

import logging
import math
import statistics
import time
from collections import deque
from datetime import timedelta
from itertools import pairwise
from typing import Any

import psutil
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from ..data.batches import tensors
from ..loggers.base import log_metrics
from .hooks import EpochEndCallback

log = logging.getLogger(__name__)

# The machine may become slower or faster: only the last epochs predict the next.
REMEMBERED = 5
GIGABYTE = 1e9


class EpochClock:
    """Seconds per epoch, as the median of the last ones: the first is often slow."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=REMEMBERED)
        # Lightning does not start an epoch again that is resumed within.
        self._started = time.perf_counter()

    def start(self) -> None:
        """Called when an epoch begins."""
        self._started = time.perf_counter()

    def stop(self, fraction: float = 1.0) -> float:
        """Called when an epoch ends; the seconds since it began.

        Args:
            fraction: how much of the epoch was trained, if it was interrupted.
        """
        seconds = time.perf_counter() - self._started
        self.seconds.append(seconds / fraction if fraction else seconds)
        return seconds

    @property
    def per_epoch(self) -> float:
        """Seconds that an epoch currently takes."""
        return statistics.median(self.seconds)


def epochs_left(trainer: Trainer) -> int | None:
    """Epochs remaining at the end of an epoch; None if the training has no end."""
    done, limits = trainer.current_epoch + 1, []
    if trainer.max_epochs not in (None, -1):
        limits.append(trainer.max_epochs - done)
    if trainer.max_steps != -1 and trainer.global_step:
        left = trainer.max_steps - trainer.global_step
        limits.append(math.ceil(left * done / trainer.global_step))
    return max(min(limits), 0) if limits else None


def count_samples(batch: Any) -> int:
    """Samples in a batch as Lightning counts them: the length of the first tensor."""
    first = next(tensors(batch), None)
    if first is None:
        return 0
    return 1 if first.ndim == 0 else first.size(0)


def clock_time(seconds: float) -> str:
    """Seconds as hours:minutes:seconds with any number of hours, as batch systems expect it."""
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}"


class EpochTimer(EpochEndCallback):
    """Measures seconds and samples per second of an epoch, and estimates the remaining time.

    The loggers get `time/epoch_seconds`, of training and validation, and
    `time/samples_per_second`, of training only and of all processes together; the epoch's line
    in the log shows the speed and the remaining time.

    Attributes:
        pace: text for the epoch's line.
    """

    def __init__(self) -> None:
        self.pace = ""
        self._clock = EpochClock()
        self._validation = EpochClock()
        self._samples = 0
        self._validation_seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock.start()
        self._samples = 0
        self._validation_seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the samples."""
        self._samples += count_samples(batch)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of the validation."""
        self._validation.start()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add up the time that is not training."""
        self._validation_seconds += self._validation.stop()

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the measurements."""
        seconds = self._clock.stop()
        training = seconds - self._validation_seconds
        if training <= 0:
            return
        speed = self._samples * trainer.world_size / training
        left = epochs_left(trainer)
        # The size of a batch without a tensor is unknown.
        words = [f"{speed:.0f} samples/s"] if self._samples else []
        if left:
            # Early stopping may end the run before.
            rest = timedelta(seconds=math.ceil(left * self._clock.per_epoch))
            words.append(f"at most {rest} left")
        self.pace = "  ".join(words)
        metrics = {"time/epoch_seconds": seconds}
        if self._samples:
            metrics["time/samples_per_second"] = speed
        log_metrics(trainer, metrics)


class DeviceStats(EpochEndCallback):
    """Logs processor and memory use of every epoch, and warns when memory keeps growing.

    `device/cpu_percent` is the processor time of this process, 100 for one busy core, and
    `device/memory_gb` its memory; `device/machine_memory_percent` includes all processes. On a CUDA
    device there are also `device/cuda_allocated_gb` and `device/cuda_reserved_gb`, the maxima of
    the epoch, and `device/cuda_percent`, the utilization at the epoch's last batch, which needs
    the package nvidia-ml-py.

    Args:
        growing_epochs: number of consecutive epochs in which memory must grow for a warning.
        growth_gb: by how much it must grow in total for a warning.
    """

    def __init__(self, growing_epochs: int = 5, growth_gb: float = 0.1) -> None:
        self.growing_epochs = growing_epochs
        self.growth_gb = growth_gb
        self._process = psutil.Process()
        self._cuda_percent: float | None = None
        self._memory: list[float] = []
        self._has_warned = False

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring."""
        self._process.cpu_percent()  # the next call measures from here
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Read the utilization of the GPU while it is still training."""
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            self._cuda_percent = cuda_percent(pl_module.device)

    @rank_zero_only
    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the measurements."""
        memory = self._process.memory_info().rss / GIGABYTE
        metrics = {
            "device/cpu_percent": self._process.cpu_percent(),
            "device/memory_gb": memory,
            "device/machine_memory_percent": psutil.virtual_memory().percent,
        }
        if pl_module.device.type == "cuda":
            memory = torch.cuda.max_memory_allocated(pl_module.device) / GIGABYTE
            reserved = torch.cuda.max_memory_reserved(pl_module.device) / GIGABYTE
            metrics |= {"device/cuda_allocated_gb": memory, "device/cuda_reserved_gb": reserved}
            if self._cuda_percent is not None:
                metrics["device/cuda_percent"] = self._cuda_percent
        log_metrics(trainer, metrics)
        self.watch(memory)

    def watch(self, memory: float) -> None:
        """Warn of a leak, once, if memory has grown in each of the last epochs.

        Args:
            memory: GB at the end of an epoch: of this process, or the maximum on the GPU.
        """
        self._memory = [*self._memory, memory][-self.growing_epochs - 1 :]
        growth = self._memory[-1] - self._memory[0]
        grows = all(after > before for before, after in pairwise(self._memory))
        enough = len(self._memory) > self.growing_epochs and growth >= self.growth_gb
        if grows and enough and not self._has_warned:
            self._has_warned = True
            log.warning(
                "memory grew in each of the last %d epochs, by %.2f GB: often losses or outputs "
                "are kept in a list together with their graph; keep loss.item() or "
                "outputs.detach().cpu() instead",
                self.growing_epochs,
                growth,
            )


def cuda_percent(device: torch.device) -> float | None:
    """Utilization of a GPU in the last second; None if it cannot be queried."""
    try:
        return float(torch.cuda.utilization(device))
    # Without nvidia-ml-py or permission to query; each vendor raises exceptions of its own.
    except Exception:
        return None
