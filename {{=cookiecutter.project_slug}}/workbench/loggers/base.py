"""What our loggers have in common, and calls to all loggers of a trainer."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from ..errors import first_line

log = logging.getLogger(__name__)

PAUSE = 60.0  # seconds without the logger, before it is tried again


class RunLogger(Logger):
    """A mixin in front of one of Lightning's loggers: what it cannot log is dropped.

    The server or the disk of a logger may disappear, and the training continues; `run.log` and
    `run.json` contain the metrics of every epoch anyway. A subclass overrides what it can show
    beside metrics; the other methods do nothing.
    """

    shows_histograms: ClassVar[bool] = False
    _paused_until = 0.0

    def show_image(self, path: Path, step: int) -> None:
        """Show a PNG file under its stem."""

    def show_text(self, name: str, text: str, step: int) -> None:
        """Show a Markdown text."""

    def show_histogram(self, name: str, values: Tensor, step: int) -> None:
        """Show the distribution of finite values."""

    def forget_after(self, step: int) -> None:
        """Remove what was logged after this step, from which a run is resumed."""

    def log_config(self, config: dict[str, Any], metrics: dict[str, float]) -> None:
        """Log the run's config.

        Args:
            config: nested plain values.
            metrics: by which a table can compare runs; NaN before they are measured.
        """
        self.log_hyperparams(config)

    @classmethod
    def join_sweep(cls, options: DictConfig, sweep: str, run_id: str | None, trial: str) -> None:
        """Change the options of a trial's logger so that its run belongs to the sweep.

        Args:
            options: of the logger.
            sweep: name of the sweep.
            run_id: id of the sweep's own run, if it has one.
            trial: name of the trial within the sweep.
        """

    @classmethod
    def end_run(cls, failed: bool) -> None:
        """End the run of a trial whose process ends without the clean-up of an exit."""

    @property
    def is_paused(self) -> bool:
        """Whether the logger has failed within the last minute."""
        return time.monotonic() < self._paused_until

    def pause(self, error: Exception) -> None:
        """Skip the logger for a while, and log a warning the first time."""
        if not self._paused_until:
            log.warning(
                "%s failed (%s): the training continues, and the logger is retried every minute",
                type(self).__name__,
                first_line(error),
            )
        self._paused_until = time.monotonic() + PAUSE

    def attempt(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Call something that logs, unless the logger is paused."""
        if self.is_paused:
            return
        try:
            call(*args, **options)
        except self.outages() as error:
            self.pause(error)

    def outages(self) -> tuple[type[Exception], ...]:
        """The errors that mean that the logger is unavailable."""
        return (OSError,)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """As Lightning's."""
        self.attempt(super().log_metrics, metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **options: Any) -> None:
        """As Lightning's."""
        self.attempt(super().log_hyperparams, params, *args, **options)

    @rank_zero_only
    def save(self) -> None:
        """As Lightning's."""
        self.attempt(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """As Lightning's."""
        self.attempt(super().finalize, status)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """As Lightning's."""
        self.attempt(super().after_save_checkpoint, checkpoint_callback)


def run_loggers(trainer: Trainer) -> list[RunLogger]:
    """The loggers of a trainer that may show more than metrics."""
    return [logger for logger in trainer.loggers if isinstance(logger, RunLogger)]


def log_metrics(trainer: Trainer, metrics: Mapping[str, float], step: int | None = None) -> None:
    """Send metrics to all loggers of a trainer.

    `self.log` at every step would take about half of the time of training a small network.

    Args:
        trainer: the trainer.
        metrics: by name.
        step: None for the trainer's current one.
    """
    step = trainer.global_step if step is None else step
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=step)


def log_config(trainer: Trainer, config: dict[str, Any], metrics: dict[str, float]) -> None:
    """Send the run's config to all loggers; for the arguments see `RunLogger.log_config`."""
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_config(config, metrics)
        else:
            logger.log_hyperparams(config)
