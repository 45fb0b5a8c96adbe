"""The runs of trials in their loggers: named, assigned to the sweep and ended with the trial.

The process of a sweep imports neither Lightning nor the loggers: whatever needs them runs in a
process of its own or in that of the trial.
"""

import logging
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, open_dict

from .. import loggers
from ..errors import UserError
from ..runs.config import plain
from .engines import Record
from .leaderboard import best_trials
from .plan import Base, Plan
from .types import TrialOutcome
from .workers import Workers, run_alone, run_job

if TYPE_CHECKING:
    from ..loggers.base import RunLogger

log = logging.getLogger(__name__)


def packages(config: DictConfig) -> list[str]:
    """The packages of the loggers, which take seconds to import: once is enough."""
    return [package for package, _ in _entries(config)]


def mark_runs(config: DictConfig, study: str, parent_run: str | None, name: str) -> None:
    """Name the runs that a trial's loggers create, and assign them to their sweep.

    Args:
        config: the trial's config, which is changed.
        study: the sweep's name.
        parent_run: id of the sweep's own run, if it has one.
        name: the trial's name within the sweep.
    """
    for package, entry in _entries(config):
        with open_dict(entry):
            _logger_class(package, entry).join_sweep(entry, study, parent_run, name)


def close_runs(config: DictConfig, failed: bool) -> None:
    """End the runs of this process, which ends without the usual clean-up."""
    for package, entry in _entries(config):
        _logger_class(package, entry).end_run(failed)


def begin_parent(plan: Plan, record: Record) -> str | None:
    """The id of the sweep's own run in its logger, created by the sweep's first command.

    Raises:
        UserError: the logger's server does not answer.
    """
    from .storage import FileLock

    package = _with_sweep_runs(plan)
    if package is None:
        return None
    with FileLock(plan.folder / f"{package}.lock").held():
        known = record.recall(package).get("run_id")
        run_id = _in_a_process(plan, package, "open_sweep", known, plan.name)
        if isinstance(run_id, TrialOutcome):
            raise UserError(f"{package} has no run for the sweep: {run_id.error}")
        record.remember(package, {"run_id": run_id})
    return str(run_id)


def end_parent(plan: Plan, record: Record) -> None:
    """Write the best value and the end of the sweep into its own run."""
    package = _with_sweep_runs(plan)
    if package is None:
        return
    best = best_trials(record.records(), plan.objectives)[:1]
    metrics = {
        f"best/{objective.metric}": value
        for record in best
        for objective, value in zip(plan.objectives, record.values, strict=True)
    }
    tags = {"best_trial": str(best[0].number)} if best else {}
    run_id, is_complete = plan.base.parent_run, record.is_finished()
    result = _in_a_process(plan, package, "close_sweep", run_id, metrics, tags, is_complete)
    if isinstance(result, TrialOutcome):
        log.warning("%s could not record the end of the sweep: %s", package, result.error)


def _entries(config: DictConfig) -> list[tuple[str, DictConfig]]:
    """The package and the options of each logger that has a module in `workbench.loggers`."""
    found = config.get("logger")
    # In another application than a project it may be anything.
    entries = list(found.values()) if isinstance(found, DictConfig) else []
    entries = [entry for entry in entries if isinstance(entry, DictConfig)]
    named = [(_class_name(entry).removesuffix("Logger").lower(), entry) for entry in entries]
    return [(name, entry) for name, entry in named if find_spec(f"{loggers.__name__}.{name}")]


def _class_name(entry: DictConfig) -> str:
    return str(entry.get("_target_")).rpartition(".")[2]


def _logger_class(package: str, entry: DictConfig) -> "type[RunLogger]":
    """Our logger of this name, also for Lightning's own."""
    kind: type[RunLogger] = getattr(
        import_module(f"{loggers.__name__}.{package}"), _class_name(entry)
    )
    return kind


def _with_sweep_runs(plan: Plan) -> str | None:
    found = [] if plan.base.is_application else packages(plan.config)
    return next((name for name in found if name in loggers.SWEEP_RUNS), None)


def _in_a_process(plan: Plan, package: str, method: str, *args: Any) -> Any:
    """Call a class method of a logger with its options in a process that may import it."""
    folder = plan.folder / package
    task = (_call, plan.base, folder, package, method, args)
    return run_alone(Workers(1), folder / "run.log", *task)


def _call(base: Base, folder: Path, package: str, method: str, args: tuple[Any, ...]) -> Any:
    def with_options(config: DictConfig) -> Any:
        (entry, *_) = [entry for name, entry in _entries(config) if name == package]
        return getattr(_logger_class(package, entry), method)(plain(entry), *args)

    return run_job(base.compose({}, folder), with_options)
