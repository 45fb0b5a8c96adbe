"""What a run shows while it trains: the model, a progress bar and one line per epoch."""

import logging
import math
import sys
import warnings
from collections.abc import Mapping

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelSummary, ProgressBar, RichProgressBar
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from ..runs.summary import without_forks
from .hooks import EpochEndCallback, is_within_epoch
from .resources import EpochClock, EpochTimer

log = logging.getLogger(__name__)

COLUMNS = ("Name", "Type", "Params")


class EpochLog(EpochEndCallback):
    """Logs epoch, seconds and metrics as one line, readable in a file as well as on a terminal."""

    def __init__(self) -> None:
        self._clock = EpochClock()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock: `on_train_epoch_start` is not called for an epoch resumed within."""
        self._clock.start()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_epoch_start(trainer, pl_module)
        self._clock.start()

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log a line for a validation within an epoch."""
        if is_within_epoch(trainer):
            known = math.isfinite(trainer.num_training_batches)
            total = f"/{trainer.num_training_batches}" if known else ""
            batches = f"after {trainer.fit_loop.batch_idx + 1}{total}"
            metrics = _text(self.measured_in_validation(trainer))
            log.info("%s  %s batches  %s", _epoch(trainer), batches, metrics)

    @rank_zero_only
    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line of the epoch."""
        seconds = self._clock.stop()
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


class NetSummary(ModelSummary):
    """Lightning's table of layers without metrics, which are modules too and would fill it.

    FLOPs are omitted: Lightning counts none for a model without an example input.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the table."""
        with warnings.catch_warnings():
            # It concerns a size in megabytes, which the table does not contain.
            warnings.filterwarnings("ignore", message=".*not supported by the model summary")
            summary = self._summary(trainer, pl_module)
        columns = dict(summary._get_summary_data())
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
        metrics = {name for name, module in pl_module.named_modules() if is_metric(module)}
        kept = [row for row in rows if row[0] not in metrics]
        if not trainer.is_global_zero:
            return
        widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)) for row in kept]
        total = f"{summary.total_parameters:,} parameters"
        trained = f"{summary.trainable_parameters:,} of them trained"
        log.info("%s", "\n".join([f"{total}, {trained}", *lines]))


def is_metric(module: nn.Module) -> bool:
    """Whether a module is a metric or contains nothing but metrics."""
    if isinstance(module, Metric | MetricCollection):
        return True
    children = list(module.children())
    is_container = isinstance(module, nn.ModuleDict | nn.ModuleList)
    return is_container and bool(children) and all(map(is_metric, children))


class NoProgressBar(ProgressBar):
    """Shows nothing, and keeps Lightning from adding a bar that would fill log files."""

    def disable(self) -> None:
        """Nothing to disable."""

    def enable(self) -> None:
        """Nothing to enable."""


def progress_bar(refresh_rate: int = 1) -> ProgressBar:
    """A live bar if the output is a terminal, else none: the log has a line per epoch.

    Args:
        refresh_rate: number of batches between two updates.
    """
    return RichProgressBar(refresh_rate=refresh_rate) if sys.stdout.isatty() else NoProgressBar()
