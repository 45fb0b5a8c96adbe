"""Lightning's MLflow logger, whose server may go away."""

import os
from pathlib import Path
from typing import Any

from pytorch_lightning import loggers
from pytorch_lightning.loggers.logger import DummyExperiment, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from ..errors import UserError, first_line
from ..redact import redact
from .outages import SurvivesOutages

# Read by mlflow when it is imported, which happens later. With its own seven tries, each metric
# would wait for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


class MLFlowLogger(SurvivesOutages, loggers.MLFlowLogger):
    """Runs in MLflow: a server's, or a file's.

    The arguments are those of Lightning's `MLFlowLogger`.

    Attributes:
        must_answer: whether a training may not begin without the server. A sweep's trials may:
            the sweep has seen it.
    """

    must_answer = True

    def outages(self) -> tuple[type[Exception], ...]:
        """The errors that mean that the server is away."""
        from mlflow.exceptions import MlflowException

        return (OSError, MlflowException)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """MLflow's client; it begins the run.

        Raises:
            UserError: nothing answers, or not as it should.
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
    def log_picture(self, path: Path) -> None:
        """Send a picture."""
        self.attempt(self.experiment.log_artifact, self.run_id, str(path), "figures")
