"""Lightning's MLflow logger, which tolerates outages of its server."""

import os
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import DictConfig
from pytorch_lightning import loggers
from pytorch_lightning.loggers.logger import DummyExperiment, rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from ..errors import UserError, first_line
from ..redact import redact
from .base import RunLogger

# mlflow reads this when it is imported, which happens later. With its default of seven retries,
# each metric would block for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

PARENT_RUN = "mlflow.parentRunId"


class MLFlowLogger(RunLogger, loggers.MLFlowLogger):
    """Runs in MLflow, on a server or in a file.

    The arguments are those of Lightning's `MLFlowLogger`.

    Attributes:
        must_answer: whether a training fails if the server does not answer at its start.
    """

    must_answer: ClassVar[bool] = True

    @classmethod
    def join_sweep(cls, options: DictConfig, sweep: str, run_id: str | None, trial: str) -> None:
        """Place the trial below the sweep's run."""
        options.run_name = trial
        if run_id is not None:
            # The sweep has reached the server: if it disappears, trials train without it.
            cls.must_answer = False
            options.tags = {**(options.get("tags") or {}), PARENT_RUN: run_id}

    @classmethod
    def open_sweep(cls, options: dict[str, Any], run_id: str | None, sweep: str) -> str:
        """Create the sweep's run, or continue that of an earlier command; returns its id."""
        logger = _connect(options | {"run_name": sweep}, run_id)
        logger.experiment.update_run(logger.run_id, status="RUNNING")
        return str(logger.run_id)

    @classmethod
    def close_sweep(
        cls,
        options: dict[str, Any],
        run_id: str,
        metrics: dict[str, float],
        tags: dict[str, str],
        is_complete: bool,
    ) -> None:
        """Log the results of the sweep, and end its run and those of killed trials.

        Args:
            options: of the logger.
            run_id: of the sweep's run.
            metrics: of the best trial.
            tags: texts.
            is_complete: whether all trials have ended.
        """
        client = _connect(options, run_id).experiment
        for name, value in metrics.items():
            client.log_metric(run_id, name, value)
        for name, text in tags.items():
            client.set_tag(run_id, name, text)
        if is_complete:
            for run in _running_below(client, run_id):
                client.set_terminated(run.info.run_id, status="KILLED")
        client.set_terminated(run_id, status="FINISHED" if is_complete else "KILLED")

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


def _connect(options: dict[str, Any], run_id: str | None) -> Any:
    """A logger that writes into this run; into a new one if it does not exist."""
    from hydra.utils import instantiate
    from mlflow.exceptions import MlflowException

    logger = instantiate(options, run_id=run_id, _convert_="all")
    try:
        exists = run_id and logger.experiment.get_run(run_id).info.lifecycle_stage == "active"
    except (MlflowException, UserError):
        # Permanently deleted, or the sweep was continued with another server.
        exists = False
    return logger if exists or run_id is None else _connect(options, None)


def _running_below(client: Any, run_id: str) -> list[Any]:
    """The runs of trials that were killed: after the end of a sweep none is running."""
    experiment = client.get_run(run_id).info.experiment_id
    query = f"tags.`{PARENT_RUN}` = '{run_id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs([experiment], query))
