"""Sweeps of any Hydra application: what stands in for the conventions of a project.

A trial of a project is a training with checkpoints and records. That of another application is a
call of its `@hydra.main` function, of which nothing but the returned value is known. The function
is imported in the processes of the trials as `multiprocessing` imports a main module.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from multiprocessing import spawn
from pathlib import Path
from typing import Any

from hydra.core.utils import JobRuntime, setup_globals
from hydra.errors import ConfigCompositionException
from hydra.types import TaskFunction
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ..errors import UserError, nearest
from ..project import register_application
from ..runs.config import CheckedRun, flatten, plain, task_options
from . import trial_channel
from .job import call_as_job
from .plan import Base, Repeat
from .processes import MAIN
from .trial_channel import TrialEnded
from .types import Objective, TrialOutcome, Value
from .workers import failed

# A part of a path that differs between any two commands.
TIMED = re.compile(r"[^/]*\$\{now:[^}]*\}[^/]*")
# Device files of NVIDIA, AMD and WSL; without them torch need not be imported to count GPUs.
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def adopt(task_function: TaskFunction, config: DictConfig) -> None:
    """Prepare the command of an application for a sweep; the config is changed.

    Raises:
        UserError: this is a process of a trial, which has imported the application.
    """
    script = Path(sys.argv[0])
    if MAIN in os.environ:
        raise UserError(
            f"{script.name} runs when it is imported: call its function below "
            "`if __name__ == '__main__':`."
        )
    _register(script.parent)
    with read_write(config.hydra), open_dict(config.hydra):
        sweeper, place = config.hydra.sweeper, config.hydra.sweep
        if sweeper.function is None:
            sweeper.function = f"{task_function.__module__}.{task_function.__qualname__}"
        # Otherwise no command would find the study of an earlier one.
        folder = TIMED.sub("", str(plain(place, resolve=False)["dir"]))
        place.dir = re.sub("/+", "/", folder).rstrip("/") or "."


def main_module() -> str:
    """How another process imports the main module of this one, for `start_server`."""
    data = spawn.get_preparation_data("")
    wanted = ("sys_path", "sys_argv", "dir", "init_main_from_name", "init_main_from_path")
    return json.dumps({key: value for key, value in data.items() if key in wanted})


def _register(root: Path) -> None:
    register_application(root.absolute(), Path(__file__).parent / "configs")


def check_options(base: Base, options: list[str]) -> DictConfig:
    """The config of a trial with these options.

    Raises:
        UserError: the application has no such option, or no seed to vary.
    """
    try:
        composed = base.config_loader.load_sweep_config(base.master, [*base.fixed, *options])
    except ConfigCompositionException as error:
        key = (re.findall(r"'([^']+)'", str(error)) or [""])[0]
        known = flatten(plain(_without_hydra(base.master), resolve=False))
        raise UserError(f"There is no option {key!r}; {nearest(key, known)}") from error
    if base.seeds > 1 and "seed" not in composed:
        raise UserError("hydra.sweeper.seeds needs an option `seed`, and the config has none.")
    return composed


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def check(base: Base) -> Any:
    """Find the application's function in a process of a trial.

    Returns:
        The checked run and the number of GPUs; a `TrialOutcome` in case of an error.
    """
    try:
        _function(base)
    except Exception as error:
        return failed(error)
    gpus = 0
    if any(map(os.path.exists, GPU_DEVICES)):
        import torch

        gpus = torch.cuda.device_count()
    return CheckedRun(None, {}, set()), gpus


def _function(base: Base) -> TaskFunction:
    _register(Path(base.script).parent)
    try:
        return get_method(base.function)
    except Exception as error:
        raise UserError(
            f"A trial cannot import {base.function}: define it at the top level of its module."
        ) from error


def run(
    base: Base, params: Mapping[str, Value], repeat: Repeat, folders: list[Path], name: str
) -> tuple[dict[str, float] | TrialOutcome, int | None]:
    """Call the application's function as Hydra does; its metrics, empty if the sweep ended it.

    Args:
        base: what all trials have in common.
        params: the configuration.
        repeat: the seed.
        folders: the folder of this call, and those of earlier attempts.
        name: the name of the call within the sweep.
    """
    assert trial_channel.current is not None
    trial_channel.current.earlier = folders[1:]
    try:
        setup_globals()
        config = base.compose(params, folders[0])
        JobRuntime.instance().set("name", config.hydra.job.name)
        with read_write(config), open_dict(config):
            config.hydra.job.num, config.hydra.job.id = int(name.partition("/")[0]), name
        if base.seeds > 1:
            config.seed = int(config.seed or 0) + repeat.seed
        options = [*task_options(config.hydra), "hydra.mode=RUN"]
        sys.argv = [base.script, *options, *([f"seed={config.seed}"] if base.seeds > 1 else [])]
        value = call_as_job(_function(base), config, base.config_loader)
        return metrics_of(value, base.objective, base.function), None
    except TrialEnded:
        return {}, None
    except Exception as error:
        return failed(error), None


def metrics_of(value: Any, objective: Objective, function: str) -> dict[str, float]:
    """The metrics in what a function returned: a number, a mapping, or a tuple of one and more.

    Raises:
        UserError: it returned anything else, or no number for the objective.
    """
    first = value[0] if isinstance(value, tuple) and value else value
    metrics = first if isinstance(first, Mapping) else {objective.metric: first}
    found = {str(name): _number(one) for name, one in metrics.items()}
    numbers = {name: number for name, number in found.items() if number is not None}
    if objective.metric not in numbers and isinstance(first, Mapping):
        hint = nearest(objective.metric, numbers) if numbers else "it has no numbers."
        raise UserError(
            f"{function} returned a dictionary without a number {objective.metric!r}, which "
            f"hydra.sweeper.metric names; {hint}"
        )
    if objective.metric not in numbers:
        raise UserError(
            f"{function} returned {first!r}, and trials are compared by a number: return a number, "
            "a dictionary of numbers, or a tuple that begins with one of them."
        )
    return numbers


def _number(value: Any) -> float | None:
    """A number of Python, NumPy or PyTorch."""
    if isinstance(value, bool | str | bytes):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None
