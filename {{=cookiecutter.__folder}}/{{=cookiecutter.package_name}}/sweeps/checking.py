"""The first point, built before any trial: what it shows is true of all of them."""

import logging
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from . import trial as trials
from .loggers import packages
from .plan import Plan
from .ray_workers import AnyWorkers, RayWorkers, gpu_count, room
from .records import Outcome, Value
from .space import Parameter
from .tune_algorithms import POPULATIONS
from .workers import Workers, check_gpus_per_trial, local_workers, run_alone

log = logging.getLogger(__name__)

# Groups whose choice decides which options a model reads.
CHOOSE_MODELS = ("model", "experiment")
# Options over which results are averaged.
AVERAGED = ("seed", "fold")
# Measured with every training, and so there to be optimised or limited too.
MEASURED = ("parameters", "seconds")


@dataclass(frozen=True)
class Checked:
    """What the first point shows of all of them.

    Attributes:
        gpu_count: the GPUs of this machine.
        data: size and fingerprint of each split.
    """

    gpu_count: int
    data: dict[str, dict[str, Any]]


def check_point(plan: Plan) -> Checked:
    """Build everything for one point, in a process of its own.

    Raises:
        UserError: something cannot work, or a metric is asked for that no trial has.
    """
    log.info("starting: imports and data")
    params = plan.space.sample(lambda parameter: parameter.first())
    folder = Path(tempfile.mkdtemp(prefix="check-"))
    task = (trials.check_trial, plan.base, params, folder)
    result = run_alone(Workers(1), folder / "run.log", *task)
    is_crash = isinstance(result, Outcome) and result.retry
    if not is_crash:
        shutil.rmtree(folder)
    if isinstance(result, Outcome):
        hint = f" (see {folder / 'run.log'})" if is_crash else ""
        raise UserError(f"{result.error}{hint}")
    _check_other_models(plan)
    names, data, gpus = result
    # The test set is for the winner alone.
    known = [*MEASURED, *(name for name in names if not name.startswith("test/"))]
    for metric in [*(o.metric for o in plan.objectives), *plan.settings.limits]:
        if metric not in known:
            raise UserError(f"No trial measures {metric!r}; {nearest(metric, known)}")
    return Checked(gpus, data)


def warn_of_separate_runs(plan: Plan) -> None:
    """Say that a pruner which was named judges each seed on its own."""
    if plan.points is None or plan.settings.pruner["name"] in ("none", *POPULATIONS):
        return
    names = [p.key for p in plan.space.parameters if p.key.rpartition(".")[2] in AVERAGED]
    if names:
        log.warning(
            "the pruner judges each trial on its own: a mean over %s would miss those that are "
            "pruned; %s prunes those of a point together",
            " and ".join(names),
            "data.folds=5 without data.fold" if "data.fold" in names else "hydra.sweeper.seeds=3",
        )


def _check_other_models(plan: Plan) -> None:
    """Refuse options that vary and have no effect on one of the models that vary too.

    Any other mistake costs the trials of that model only.
    """
    for parameter in plan.space.parameters:
        others = parameter.points()[1:] if parameter.key in CHOOSE_MODELS else []
        for other in others:
            params = plan.space.sample(partial(_first_but_for, {parameter.key: other}))
            with tempfile.TemporaryDirectory(prefix="check-") as name:
                task = (trials.find_useless, plan.base, params, Path(name))
                result = run_alone(Workers(1), Path(name, "run.log"), *task)
            if isinstance(result, str):
                raise UserError(
                    f"With {parameter.key}={other}: {result.rstrip('.')}; or vary it with the "
                    f"other choices only, by `when: {parameter.key}=...` in a search space."
                )


def _first_but_for(chosen: Mapping[str, Value], parameter: Parameter) -> Value:
    return chosen.get(parameter.key, parameter.first())


def make_workers(plan: Plan, gpu_count: int) -> AnyWorkers:
    """The workers that there is room for, on this machine or on a cluster.

    Args:
        plan: what the sweep is to do.
        gpu_count: the GPUs of this machine.

    Raises:
        UserError: there is not even room for one.
    """
    if not plan.settings.is_on_ray:
        settings = plan.settings
        assert not isinstance(settings.workers, str)
        return local_workers(
            plan.config.trainer,
            plan.n_trials,
            gpu_count,
            settings.workers,
            settings.gpus,
            settings.gpus_per_trial,
        )
    gpus = gpus_on_ray(plan)
    cpus, slots = plan.settings.cpus_per_trial, plan.settings.ray_slots
    count = min(slots or room(cpus, gpus), plan.n_trials)
    return RayWorkers(count, cpus, gpus, plan.folder, packages(plan.config))


def gpus_on_ray(plan: Plan) -> float:
    """The GPUs of a trial on the cluster, or its share of one.

    Raises:
        UserError: they cannot be dealt out.
    """
    gpus = plan.settings.gpus_per_trial
    if gpus is None:
        wants_gpus = plan.config.trainer.accelerator in ("auto", "gpu", "cuda")
        gpus = 1.0 if wants_gpus and gpu_count() else 0.0
    check_gpus_per_trial(gpus, gpu_count())
    return gpus
