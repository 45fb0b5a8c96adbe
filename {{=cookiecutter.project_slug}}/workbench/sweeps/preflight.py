"""Checks before the first trial: one configuration is built, and what it shows holds for all."""

import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import application
from . import trial as trials
from .engines import Cluster, cluster_of, slots_of
from .plan import Plan
from .space import Parameter, Place, Space, leave_out, places
from .tracking import packages
from .types import TrialOutcome, Value
from .workers import AnyWorkers, Workers, check_gpus_per_trial, local_workers, run_alone

log = logging.getLogger(__name__)

# Config groups whose choice decides which options a model reads.
CHOOSE_MODELS = ("model", "experiment")
# Options over which results are usually averaged.
AVERAGED = ("seed", "fold")
# Measured in every training, so they can be optimized or limited too.
MEASURED = ("parameters", "seconds")


@dataclass(frozen=True)
class Checked:
    """The results of the checks.

    Attributes:
        gpu_count: number of GPUs of this machine.
        data: size and fingerprint of each split.
        space: the search space without optional parameters that have no effect on the model.
    """

    gpu_count: int
    data: dict[str, dict[str, Any]]
    space: Space


def check_point(plan: Plan) -> Checked:
    """Build everything for one configuration, in a process of its own.

    Raises:
        UserError: it cannot be built, or no trial measures one of the metrics.
    """
    log.info("starting: imports and data")
    metrics = [*(o.metric for o in plan.objectives), *plan.settings.limits]
    monitored = [metric for metric in metrics if metric not in MEASURED]
    params = plan.space.sample(lambda parameter: parameter.first())
    folder = Path(tempfile.mkdtemp(prefix="check-"))
    task: tuple[Any, ...] = (application.check, plan.base)
    if not plan.base.is_application:
        task = (trials.check_trial, plan.base, params, folder, _optional(plan.space), monitored)
    result = run_alone(Workers(1), folder / "run.log", *task)
    if isinstance(result, TrialOutcome) and result.retry:
        if result.traceback:
            # Only the traceback shows where in the user's code it happened.
            log.error("%s", result.traceback.rstrip())
        raise UserError(f"{result.error} (see {folder / 'run.log'})")
    shutil.rmtree(folder)
    if isinstance(result, TrialOutcome):
        raise UserError(result.error)
    checked, gpus = result
    if plan.base.is_application:
        return Checked(gpus, {}, plan.space)
    if checked.metrics is not None:
        _check_metrics(metrics, checked.metrics)
    return Checked(gpus, checked.data, _effective(plan, checked.useless))


def _check_metrics(metrics: Sequence[str], names: Sequence[str]) -> None:
    """Reject a metric that no trial measures.

    Raises:
        UserError: such a metric.
    """
    # The test set is only for the winner.
    known = [*MEASURED, *(name for name in names if not name.startswith("test/"))]
    for metric in metrics:
        if metric not in known:
            listed = ", ".join(sorted(known))
            raise UserError(f"No trial measures {metric!r}; the metrics are {listed}.")


def _optional(space: Space) -> frozenset[str]:
    return frozenset(parameter.key for parameter in space.parameters if parameter.is_optional)


def warn_of_separate_runs(plan: Plan) -> None:
    """Warn if a selected pruner judges the seeds of a grid separately."""
    if plan.points is None or plan.has_schedules or plan.settings.pruner["name"] == "none":
        return
    names = [p.key for p in plan.space.parameters if p.key.rpartition(".")[2] in AVERAGED]
    if names:
        log.warning(
            "the pruner judges each trial separately: a mean over %s would lack those that are "
            "pruned; %s prunes the trainings of a configuration together",
            " and ".join(names),
            "data.folds=5 without data.fold" if "data.fold" in names else "hydra.sweeper.seeds=3",
        )


def _effective(plan: Plan, useless: Set[str]) -> Space:
    """The search space without optional parameters that have no effect on the model.

    Args:
        plan: of the sweep.
        useless: the options without effect in the first configuration.

    Raises:
        UserError: an option of the command has no effect on one of the models that vary. Any other
            error with such a model fails only the trials of that model.
    """
    optional = _optional(plan.space)
    groups = [p for p in plan.space.parameters if p.key in CHOOSE_MODELS and p.is_group]
    exists: dict[str, set[Place]] = {key: set() for key in optional}
    for place, chosen in places(groups).items():
        found = _useless_with(plan, "=".join(place), chosen) if place else useless
        for key in optional:
            if not _is_among(key, found):
                exists[key].add(place)
    return leave_out(plan.space, groups, exists, "no effect on this model")


def _useless_with(plan: Plan, choice: str, chosen: Mapping[str, Value]) -> Set[str]:
    """The options without effect for other choices than the first ones.

    Args:
        plan: of the sweep.
        choice: the choice that is not the first, such as "model=cnn".
        chosen: all choices.

    Raises:
        UserError: an option of the command has no effect.
    """
    params = plan.space.sample(partial(_first_but_for, chosen))
    with tempfile.TemporaryDirectory(prefix="check-") as name:
        task = (trials.find_useless, plan.base, params, Path(name), _optional(plan.space))
        result = run_alone(Workers(1), Path(name, "run.log"), *task)
    if isinstance(result, str):
        raise UserError(
            f"With {choice}: {result.rstrip('.')}; or vary it only with the other choices, by "
            f"`when: {choice.partition('=')[0]}=...` in a search space."
        )
    return set() if isinstance(result, TrialOutcome) else result


def _is_among(key: str, options: Set[str]) -> bool:
    """Whether these options contain an option or its parent."""
    name = key.lstrip("+")
    return name in options or ".".join(name.split(".")[:2]) in options


def _first_but_for(chosen: Mapping[str, Value], parameter: Parameter) -> Value:
    return chosen.get(parameter.key, parameter.first())


def make_workers(plan: Plan, gpu_count: int) -> AnyWorkers:
    """As many workers as there is room for, on this machine or on a cluster.

    Args:
        plan: of the sweep.
        gpu_count: number of GPUs of this machine.

    Raises:
        UserError: there is no room for a single one.
    """
    settings = plan.settings
    cluster = cluster_of(settings)
    if cluster is None:
        assert not isinstance(settings.workers, str)
        return local_workers(
            plan.trainer,
            plan.n_trials,
            gpu_count,
            settings.workers,
            settings.gpus,
            settings.gpus_per_trial,
        )
    count, gpus = slots_on(cluster, plan)
    cpus = settings.cpus_per_trial
    return cluster.make_workers(count, cpus, gpus, plan.folder, packages(plan.config))


def slots_on(cluster: Cluster, plan: Plan) -> tuple[int, float]:
    """How many trials run at once on a cluster, and the GPUs of each.

    Raises:
        UserError: there is no room for a single one.
    """
    gpus = plan.settings.gpus_per_trial
    if gpus is None:
        wants_gpus = plan.config.trainer.accelerator in ("auto", "gpu", "cuda")
        gpus = 1.0 if wants_gpus and cluster.gpu_count() else 0.0
    check_gpus_per_trial(gpus, cluster.gpu_count())
    slots = slots_of(plan.settings) or cluster.room(plan.settings.cpus_per_trial, gpus)
    return min(slots, plan.n_trials), gpus
