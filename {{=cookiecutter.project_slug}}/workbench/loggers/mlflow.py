"""Lightning's MLflow logger, which tolerates outages of its server."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning import loggers
from pytorch_lightning.loggers.logger import DummyExperiment, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from ..errors import UserError, first_line
from ..redact import redact
from .base import RunLogger

# mlflow reads this when it is imported, which happens later. With its default of seven retries,
# each metric would block for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


class MLFlowLogger(RunLogger, loggers.MLFlowLogger):
    """Runs in MLflow, on a server or in a file.

    The arguments are those of Lightning's `MLFlowLogger`.

    Attributes:
        must_answer: whether a training fails without the server at its start. The trials of a sweep
            do not: the sweep has reached it before.
    """

    must_answer = True

    def outages(self) -> tuple[type[Exception], ...]:
        """The errors that mean that the server is unavailable."""
        from mlflow.exceptions import MlflowException

        return (OSError, MlflowException)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; the run is created on first access.

        Raises:
            UserError: the server does not answer, or rejects the run.
        """
        if not self._initialized and self.is_paused:
            return DummyExperiment()
        try:
            return super().experiment
        except self.outages() as error:
            if self.must_answer:
                place = redact(str(self._tracking_uri))
                raise UserError(
                    f"MLflow at {place} does not take the run ({first_line(error)}): start its "
                    "server, or choose another logger."
                ) from error
            self.pause(error)
            return DummyExperiment()

    @rank_zero_only
    def show_image(self, path: Path, step: int) -> None:
        """Upload a file."""
        self.attempt(self.experiment.log_artifact, self.run_id, str(path), "figures")
