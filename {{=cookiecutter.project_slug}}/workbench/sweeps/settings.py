"""The options of `configs/hydra/sweeper/`, checked before anything starts."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..project import project
from ..runs.config import plain
from .types import Objective


class Tested(StrEnum):
    """What is measured on the test set once all trials have ended."""

    WINNER = "winner"
    ALL = "all"
    # By test=false, as in a single training.
    NOTHING = "nothing"


# Above it a grid is a mistake rather than a plan.
LARGEST_GRID = 100_000
# Bytes; most file systems take 255.
LONGEST_NAME = 200


@dataclass(frozen=True)
class Settings:
    """What the sweeper was told; `configs/hydra/sweeper/optuna.yaml` says what each means."""

    engine: str
    function: str
    n_trials: int | None
    workers: int | str | None
    address: str | None
    gpus: list[int] | None
    gpus_per_trial: float | None
    cpus_per_trial: float
    timeout: float | None
    trial_timeout: float | None
    max_retries: int
    seeds: int
    test: Tested
    study_name: str | None
    allow_changes: bool
    storage: str | None
    enqueue: Any
    more_objectives: dict[str, str]
    limits: dict[str, float]
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    search_space: dict[str, Any]


def read_settings(config: DictConfig) -> Settings:
    """Read `hydra.sweeper`.

    Raises:
        UserError: a value that means nothing.
    """
    values = plain(config)
    values.pop("_target_")
    for name, example in (("more_objectives", "{parameters:min}"), ("limits", "{parameters:1e5}")):
        values[name] = values[name] or {}
        if not isinstance(values[name], Mapping):
            raise UserError(
                f"hydra.sweeper.{name} goes by metrics, as {example}, not {values[name]!r}."
            )
    values["storage"] = None if values["storage"] is None else str(values["storage"])
    if values["study_name"] is not None:
        values["study_name"] = _folder_name(values["study_name"])
    if not isinstance(values["allow_changes"], bool):
        raise UserError(
            f"hydra.sweeper.allow_changes is true or false, not {values['allow_changes']!r}."
        )
    for kind in ("sampler", "pruner"):
        if not isinstance(values[kind], Mapping):
            values[kind] = {"name": str(values[kind])}
    known = [Tested.WINNER, Tested.ALL]
    if values["test"] not in known:
        raise UserError(f"hydra.sweeper.test is winner or all, not {values['test']!r}.")
    values["test"] = Tested(values["test"])
    settings = Settings(**values)
    for name, least in (("n_trials", 1), ("seeds", 1), ("max_retries", 0)):
        value = getattr(settings, name)
        if value is None and name == "n_trials":
            continue
        if type(value) is not int or value < least:
            raise UserError(f"hydra.sweeper.{name} is a whole number from {least}, not {value!r}.")
    if not (_is_number(settings.cpus_per_trial) and settings.cpus_per_trial > 0):
        raise UserError(
            f"hydra.sweeper.cpus_per_trial is a number above 0, not {settings.cpus_per_trial!r}."
        )
    for name in ("timeout", "trial_timeout"):
        value = getattr(settings, name)
        if value is not None and not (_is_number(value) and value > 0):
            raise UserError(f"hydra.sweeper.{name} is a number of seconds, not {value!r}.")
    gpus, share = settings.gpus, settings.gpus_per_trial
    if gpus is not None and not (isinstance(gpus, list) and all(type(gpu) is int for gpu in gpus)):
        raise UserError(f"hydra.sweeper.gpus is a list of numbers as [0,1], not {gpus!r}.")
    if share is not None and not (_is_number(share) and share >= 0):
        raise UserError(
            f"hydra.sweeper.gpus_per_trial is a number of GPUs, or a share as 0.5, not {share!r}."
        )
    for metric, mode in settings.more_objectives.items():
        if mode not in ("min", "max"):
            raise UserError(f"hydra.sweeper.more_objectives: {metric} is min or max, not {mode!r}.")
    for metric, limit in settings.limits.items():
        if not _is_number(limit):
            raise UserError(f"hydra.sweeper.limits: {metric} has a number, not {limit!r}.")
    return settings


def check_study_name(name: str) -> None:
    """Refuse a name that is not the name of one folder below `hydra.sweep.dir`.

    Raises:
        UserError: an empty name, one with a slash or a control character, or one that is too long.
    """
    is_folder = name.strip() not in ("", ".", "..") and not set(name) & {"/", "\\"}
    if not (is_folder and name.isprintable() and len(name.encode()) <= LONGEST_NAME):
        raise UserError(
            f"The study name {name!r} cannot be the name of a folder: give "
            "hydra.sweeper.study_name=<a word without slashes>; hydra.sweep.dir is the folder in "
            "which it lies."
        )


def _folder_name(value: Any) -> str:
    """A study's name as it was typed: Hydra reads some as numbers or as true and false."""
    if not isinstance(value, str | int | float):
        raise UserError(f"hydra.sweeper.study_name is the name of a folder, not {value!r}.")
    name = str(value).lower() if isinstance(value, bool) else str(value)
    check_study_name(name)
    return name


def objective_of(config: DictConfig) -> Objective:
    """The objective of every training.

    Raises:
        UserError: there is none, so trials could not be compared.
    """
    objective = config.objective
    if objective is None or objective.get("metric") is None:
        raise UserError(
            "A sweep compares its trials by objective.metric, and there is none: give "
            "objective.metric=<a metric that the model logs> and objective.mode=min or max."
        )
    return Objective(str(objective.metric), objective.mode)


def objectives_of(config: DictConfig, settings: Settings) -> list[Objective]:
    """What is optimised: the objective of every training, and what the sweep adds."""
    others = (Objective(*pair) for pair in settings.more_objectives.items())
    return [objective_of(config), *others]


def pruner_config(name: str) -> dict[str, Any]:
    """The options of a pruner, from its config file."""
    return plain(OmegaConf.load(project().configs / f"hydra/sweeper/pruner/{name}.yaml"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
