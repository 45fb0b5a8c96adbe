"""Trials in W&B and MLflow: one group or one parent run a sweep, each run closed with its trial.

wandb and mlflow are imported only where one of their loggers is configured.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from ..errors import UserError
from ..runs.config import plain
from .leaderboard import best_trials
from .search import Record
from .types import TrialOutcome
from .workers import Workers, run_alone

if TYPE_CHECKING:
    from .plan import Plan
    from .trial import Base

log = logging.getLogger(__name__)

PACKAGES = {"WandbLogger": "wandb", "MLFlowLogger": "mlflow"}
PARENT_RUN = "mlflow.parentRunId"


def packages(config: DictConfig) -> list[str]:
    """The packages of the loggers, which take seconds to import: once is enough."""
    return [package for package, entry in _entries(config)]


def mark_runs(config: DictConfig, study: str, parent_run: str | None, name: str) -> None:
    """Name the runs that a trial's loggers begin, and say to which sweep they belong.

    Args:
        config: the trial's config, which is changed.
        study: the sweep's name.
        parent_run: the sweep's run in MLflow.
        name: the trial's name within the sweep.
    """
    for package, entry in _entries(config):
        with open_dict(entry):
            if package == "wandb":
                entry.name = name
                # A group that the command names is one for several sweeps.
                entry.group = entry.get("group") or study
            else:
                from ..loggers.mlflow import MLFlowLogger

                # The sweep has seen the server: should it go away, the trials train without it.
                MLFlowLogger.must_answer = False
                entry.run_name = name
                if parent_run is not None:
                    entry.tags = {**(entry.get("tags") or {}), PARENT_RUN: parent_run}


def close_runs(failed: bool) -> None:
    """End the W&B run of this process: Lightning leaves that to the exit, and here is none."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish(exit_code=int(failed))


def begin_parent(plan: "Plan", record: Record) -> str | None:
    """The sweep's run in MLflow, made by the first of its commands; None without MLflow.

    Raises:
        UserError: MLflow does not answer.
    """
    from .storage import FileLock

    if not _has_mlflow(plan):
        return None
    with FileLock(plan.folder / "mlflow.lock").held():
        known = record.recall("mlflow").get("run_id")
        run_id = _in_a_process(plan, _open_parent, plan.name, known)
        if isinstance(run_id, TrialOutcome):
            raise UserError(f"MLflow has no run for the sweep: {run_id.error}")
        record.remember("mlflow", {"run_id": run_id})
    return str(run_id)


def end_parent(plan: "Plan", record: Record) -> None:
    """Write the best value into the sweep's run in MLflow, and how the sweep ended."""
    if not _has_mlflow(plan):
        return
    best = best_trials(record.records(), plan.objectives)[:1]
    metrics = {
        f"best/{objective.metric}": value
        for record in best
        for objective, value in zip(plan.objectives, record.values, strict=True)
    }
    facts = {"best_trial": str(best[0].number)} if best else {}
    run_id, is_whole = plan.base.parent_run, record.is_finished()
    result = _in_a_process(plan, _close_parent, run_id, metrics, facts, is_whole)
    if isinstance(result, TrialOutcome):
        log.warning("MLflow does not know that the sweep has ended: %s", result.error)


def _entries(config: DictConfig) -> list[tuple[str, DictConfig]]:
    entries = [entry for entry in (config.get("logger") or {}).values() if entry is not None]
    named = [(str(entry.get("_target_")).rpartition(".")[2], entry) for entry in entries]
    return [(PACKAGES[name], entry) for name, entry in named if name in PACKAGES]


def _has_mlflow(plan: "Plan") -> bool:
    return "mlflow" in packages(plan.config)


def _in_a_process(plan: "Plan", function: Callable[..., Any], *args: Any) -> Any:
    """Run a function of the logger's options where mlflow is imported: not in this process."""
    folder = plan.folder / "mlflow"
    return run_alone(Workers(1), folder / "run.log", _run, plan.base, folder, function, args)


def _run(base: "Base", folder: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    from .trial import run_job

    def with_options(config: DictConfig) -> Any:
        (entry, *_) = [entry for package, entry in _entries(config) if package == "mlflow"]
        return function(plain(entry), *args)

    return run_job(base.compose({}, folder), with_options)


def _connect(options: dict[str, Any], run_id: str | None) -> Any:
    """The logger of these options, writing into a run; into a new one where there is no such."""
    from hydra.utils import instantiate
    from mlflow.exceptions import MlflowException

    logger = instantiate(options, run_id=run_id, _convert_="all")
    try:
        is_there = run_id and logger.experiment.get_run(run_id).info.lifecycle_stage == "active"
    except (MlflowException, UserError):
        # Deleted for good, or the sweep goes on with another server.
        is_there = False
    return logger if is_there or run_id is None else _connect(options, None)


def _open_parent(options: dict[str, Any], study: str, known: str | None) -> str:
    """Go on with the run of this id, or make one."""
    logger = _connect(options | {"run_name": study}, known)
    logger.experiment.update_run(logger.run_id, status="RUNNING")
    return str(logger.run_id)


def _close_parent(
    options: dict[str, Any],
    run_id: str,
    metrics: dict[str, float],
    facts: dict[str, str],
    is_whole: bool,
) -> None:
    client = _connect(options, run_id).experiment
    for metric, value in metrics.items():
        client.log_metric(run_id, metric, value)
    for fact, text in facts.items():
        client.set_tag(run_id, fact, text)
    if is_whole:
        for run in _running_below(client, run_id):
            client.set_terminated(run.info.run_id, status="KILLED")
    client.set_terminated(run_id, status="FINISHED" if is_whole else "KILLED")


def _running_below(client: Any, run_id: str) -> list[Any]:
    """Runs of trials that were killed: once a sweep has ended, none is running any more."""
    experiment = client.get_run(run_id).info.experiment_id
    searched = f"tags.`{PARENT_RUN}` = '{run_id}' and attributes.status = 'RUNNING'"
    return list(client.search_runs([experiment], searched))
