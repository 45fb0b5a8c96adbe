"""Lightning's W&B logger, which falls back to offline runs without a connection."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning import loggers
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from ..errors import UserError, first_line
from ..redact import redact
from .base import RunLogger

log = logging.getLogger(__name__)

# Seconds. With the default of 90 a training would seem to hang; and if the server has disappeared,
# W&B waits for hours after the training.
os.environ.setdefault("WANDB_INIT_TIMEOUT", "30")
os.environ.setdefault("WANDB_FINISH_TIMEOUT", "300")


class WandbLogger(RunLogger, loggers.WandbLogger):
    """Runs in Weights & Biases, stored for a later upload if the server does not answer.

    The arguments are those of Lightning's `WandbLogger`.
    """

    @classmethod
    def join_sweep(cls, options: DictConfig, sweep: str, run_id: str | None, trial: str) -> None:
        """Put the trial into a group; a group given in the command may span several sweeps."""
        options.name = trial
        options.group = options.get("group") or sweep

    @classmethod
    def end_run(cls, failed: bool) -> None:
        """End the run, which Lightning leaves to the exit of the process."""
        wandb = sys.modules.get("wandb")
        if wandb is not None and wandb.run is not None:
            wandb.finish(exit_code=int(failed))

    def outages(self) -> tuple[type[Exception], ...]:
        """The errors that mean that W&B's own process is unavailable."""
        from wandb.errors import Error

        return (OSError, Error)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """W&B's run, created on first access.

        Raises:
            UserError: W&B rejects the run.
        """
        from wandb.errors import AuthenticationError, CommError, Error

        try:
            with without_secrets_in_command():
                return super().experiment
        except Error as error:
            if not isinstance(error, CommError) or isinstance(error, AuthenticationError):
                raise UserError(f"W&B does not take the run ({first_line(error)}).") from error
            log.warning(
                "W&B does not answer (%s): the run is written to be sent later, with `wandb sync`",
                first_line(error),
            )
            self._wandb_init["mode"] = "offline"
            with without_secrets_in_command():
                return super().experiment

    @rank_zero_only
    def show_image(self, path: Path, step: int) -> None:
        """Upload an image."""
        self.attempt(self.log_image, path.stem, [str(path)])


@contextmanager
def without_secrets_in_command() -> Iterator[None]:
    """Hide secrets in `sys.argv`, which W&B sends to its server."""
    before = sys.argv
    sys.argv = [redact(word) for word in before]
    try:
        yield
    finally:
        sys.argv = before
