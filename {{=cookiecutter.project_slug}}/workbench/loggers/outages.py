"""A logger may go away, with its server or its disk; the training goes on."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from ..errors import first_line

log = logging.getLogger(__name__)

PAUSE = 60.0  # seconds without the logger, before it is tried again


class SurvivesOutages(Logger):
    """Stands before one of Lightning's loggers, and leaves out what cannot be logged.

    `run.log` and `run.json` have the metrics of every epoch all the same.
    """

    _paused_until = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether the logger was away a moment ago."""
        return time.monotonic() < self._paused_until

    def pause(self, error: Exception) -> None:
        """Leave the logger alone for a while, and say so the first time."""
        if not self._paused_until:
            log.warning(
                "%s does not work (%s): the training goes on, and it is tried again every minute",
                type(self).__name__,
                first_line(error),
            )
        self._paused_until = time.monotonic() + PAUSE

    def attempt(self, call: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Log something, unless the logger is away."""
        if self.is_paused:
            return
        try:
            call(*args, **options)
        except self.outages() as error:
            self.pause(error)

    def outages(self) -> tuple[type[Exception], ...]:
        """The errors that mean that the logger is away."""
        return (OSError,)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the metrics of a step."""
        self.attempt(super().log_metrics, metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **options: Any) -> None:
        """Log the run's config."""
        self.attempt(super().log_hyperparams, params, *args, **options)

    @rank_zero_only
    def save(self) -> None:
        """Write what waits."""
        self.attempt(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Say how the run ended."""
        self.attempt(super().finalize, status)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Send a checkpoint, where the logger was told to."""
        self.attempt(super().after_save_checkpoint, checkpoint_callback)
