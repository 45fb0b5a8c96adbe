"""What the run takes of the machine, and a hint when memory grows."""

import logging
from itertools import pairwise
from typing import Any

import psutil
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from .epoch_end import EpochEndCallback

log = logging.getLogger(__name__)

GIGABYTE = 1e9


class DeviceStats(EpochEndCallback):
    """Sends processor and memory use of every epoch to the loggers.

    `device/cpu_percent` is the processor time of this process, 100 for one busy core, and
    `device/memory_gb` its memory; `device/machine_memory_percent` counts everybody's. On a CUDA
    device there are also `device/cuda_allocated_gb` and `device/cuda_reserved_gb`, the highest of
    the epoch, and `device/cuda_percent`, how busy it was at the epoch's last batch, which needs
    the package nvidia-ml-py.

    Args:
        growing_epochs: epochs in a row in which memory must grow for a hint.
        growth_gb: how much it must grow in all for a hint.
    """

    def __init__(self, growing_epochs: int = 5, growth_gb: float = 0.1) -> None:
        self.growing_epochs = growing_epochs
        self.growth_gb = growth_gb
        self._process = psutil.Process()
        self._cuda_percent: float | None = None
        self._memory: list[float] = []
        self._has_hinted = False

    @rank_zero_only
    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring."""
        self._process.cpu_percent()  # later calls count from here
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look how busy the GPU is while it still trains."""
        if trainer.is_last_batch and pl_module.device.type == "cuda":
            self._cuda_percent = cuda_percent(pl_module.device)

    @rank_zero_only
    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what was measured."""
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
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)
        self.watch(memory)

    def watch(self, memory: float) -> None:
        """Hint at a leak, once, when memory has grown in every one of the last epochs.

        Args:
            memory: GB at the end of an epoch: of this process, or the highest on the GPU.
        """
        self._memory = [*self._memory, memory][-self.growing_epochs - 1 :]
        growth = self._memory[-1] - self._memory[0]
        grows = all(after > before for before, after in pairwise(self._memory))
        enough = len(self._memory) > self.growing_epochs and growth >= self.growth_gb
        if grows and enough and not self._has_hinted:
            self._has_hinted = True
            log.warning(
                "memory grew in each of the last %d epochs, by %.2f GB: often losses or outputs "
                "are kept in a list with the graph they came from; keep loss.item() or "
                "outputs.detach().cpu() instead",
                self.growing_epochs,
                growth,
            )


def cuda_percent(device: torch.device) -> float | None:
    """How busy a GPU was within the last second, None where it cannot be asked."""
    try:
        return float(torch.cuda.utilization(device))
    # Without nvidia-ml-py or the rights to ask; each vendor has exceptions of its own.
    except Exception:
        return None
