"""The options of a sweep, from `configs/hydra/sweeper/`, and their checks."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..checks import (
    check_bool,
    check_choice,
    check_integer,
    check_number,
    is_integer,
    is_number,
    require,
)
from ..errors import UserError, nearest
from ..project import project
from ..runs.config import plain
from .types import Objective


class Tested(StrEnum):
    """The trials that are tested once all have ended."""

    WINNER = "winner"
    ALL = "all"
    # With test=false, as in a single training.
    NOTHING = "nothing"


# Beyond this, a grid is a mistake rather than intended.
LARGEST_GRID = 100_000
# Bytes; most file systems allow 255.
LONGEST_NAME = 200
PREFIX = "hydra.sweeper"


@dataclass(frozen=True)
class Settings:
    """The options of a sweep, explained in `configs/hydra/sweeper/optuna.yaml`."""

    engine: str
    function: str
    n_trials: int | None
    epochs: int | None
    patience: int | None
    terminator: bool
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
    # Only in another application than a project.
    direction: str | None = None
    metric: str | None = None

    @property
    def is_application(self) -> bool:
        """Whether the trials are those of an application, and not of a project."""
        return self.direction is not None


def read_settings(config: DictConfig) -> Settings:
    """Read and check `hydra.sweeper`.

    Raises:
        UserError: an invalid value.
    """
    values = plain(config)
    values = {key: value for key, value in values.items() if key not in ("_target_", "_recursive_")}
    if "direction" in values:
        _read_application(values)
    for name, example in (("more_objectives", "{parameters:min}"), ("limits", "{parameters:1e5}")):
        values[name] = values[name] or {}
        expected = f"a mapping of metrics such as {example}"
        require(isinstance(values[name], Mapping), f"{PREFIX}.{name}", expected, values[name])
    values["storage"] = None if values["storage"] is None else str(values["storage"])
    if values["study_name"] is not None:
        values["study_name"] = _folder_name(values["study_name"])
    for name in ("allow_changes", "terminator"):
        check_bool(f"{PREFIX}.{name}", values[name])
    for kind in ("sampler", "pruner"):
        if not isinstance(values[kind], Mapping):
            values[kind] = {"name": str(values[kind])}
    check_choice(f"{PREFIX}.test", values["test"], (Tested.WINNER, Tested.ALL))
    values["test"] = Tested(values["test"])
    settings = Settings(**values)
    _check_numbers(settings)
    for metric, mode in settings.more_objectives.items():
        check_choice(f"{PREFIX}.more_objectives.{metric}", mode, ("min", "max"))
    for metric, limit in settings.limits.items():
        check_number(f"{PREFIX}.limits.{metric}", limit)
    if settings.terminator and settings.more_objectives:
        raise UserError(
            f"{PREFIX}.terminator judges one objective, and this sweep has several: use "
            f"{PREFIX}.patience instead."
        )
    return settings


def _read_application(values: dict[str, Any]) -> None:
    """Read what only applications set, which may use the names of Hydra's Optuna sweeper.

    Raises:
        UserError: an invalid direction or an unknown option.
    """
    check_choice(f"{PREFIX}.direction", values["direction"], ("minimize", "maximize"))
    values["test"] = Tested.WINNER
    seed = values.pop("seed", None)
    for name, other in (("workers", "n_jobs"), ("search_space", "params")):
        given = values.pop(other, None)
        values[name] = values[name] or given or ({} if name == "search_space" else None)
    # Clusters need a project.
    check_integer(f"{PREFIX}.workers", values["workers"], least=1, optional=True)
    for kind in ("sampler", "pruner"):
        if isinstance(values[kind], Mapping) and "_target_" in values[kind]:
            # A class of Optuna, such as optuna.samplers.TPESampler.
            name = values[kind].pop("_target_").rpartition(".")[2].lower().removesuffix(kind)
            name = name.replace("iii", "3").replace("ii", "2")
            # Without the options of the default, which Hydra has merged with them.
            before = values[kind]["name"]
            merged = {} if name == before else default_options(kind, before)
            left = {k: v for k, v in values[kind].items() if k not in merged or merged[k] != v}
            values[kind] = {**left, "name": name}
    if seed is not None:
        values["sampler"] = {**values["sampler"], "seed": seed}
    for name in values:
        if name not in Settings.__dataclass_fields__:
            known = nearest(name, Settings.__dataclass_fields__)
            raise UserError(f"There is no option {PREFIX}.{name}; {known}")


def _check_numbers(settings: Settings) -> None:
    for name in ("n_trials", "epochs", "patience"):
        check_integer(f"{PREFIX}.{name}", getattr(settings, name), least=1, optional=True)
    check_integer(f"{PREFIX}.seeds", settings.seeds, least=1)
    check_integer(f"{PREFIX}.max_retries", settings.max_retries, least=0)
    check_number(f"{PREFIX}.cpus_per_trial", settings.cpus_per_trial, above=0)
    for name in ("timeout", "trial_timeout"):
        value = getattr(settings, name)
        is_valid = value is None or (is_number(value) and value > 0)
        require(is_valid, f"{PREFIX}.{name}", "a number of seconds", value)
    gpus, fraction = settings.gpus, settings.gpus_per_trial
    is_valid = gpus is None or (isinstance(gpus, list) and all(map(is_integer, gpus)))
    require(is_valid, f"{PREFIX}.gpus", "a list of integers such as [0,1]", gpus)
    is_valid = fraction is None or (is_number(fraction) and fraction >= 0)
    expected = "a number of GPUs, or a fraction such as 0.5"
    require(is_valid, f"{PREFIX}.gpus_per_trial", expected, fraction)


def check_study_name(name: str) -> None:
    """Reject a name that cannot be the name of a folder in `hydra.sweep.dir`.

    Raises:
        UserError: it is empty or too long, or contains a slash or a control character.
    """
    is_folder = name.strip() not in ("", ".", "..") and not set(name) & {"/", "\\"}
    if not (is_folder and name.isprintable() and len(name.encode()) <= LONGEST_NAME):
        raise UserError(
            f"The study name {name!r} cannot be the name of a folder: give "
            "hydra.sweeper.study_name=<a word without slashes>, and hydra.sweep.dir=<its parent "
            "folder> if necessary."
        )


def _folder_name(value: Any) -> str:
    """The name as typed: Hydra reads some names as numbers or booleans."""
    is_name = isinstance(value, str | int | float)
    require(is_name, f"{PREFIX}.study_name", "the name of a folder", value)
    name = str(value).lower() if isinstance(value, bool) else str(value)
    check_study_name(name)
    return name


def objective_of(config: DictConfig, settings: Settings) -> Objective:
    """The objective of every trial.

    Raises:
        UserError: there is none, so trials cannot be compared.
    """
    if settings.direction is not None:
        return Objective(settings.metric or "objective", settings.direction[:3])
    objective = config.objective
    if objective is None or objective.get("metric") is None:
        raise UserError(
            "A sweep compares its trials by objective.metric, and there is none: give "
            "objective.metric=<a metric that the model logs> and objective.mode=min or max."
        )
    return Objective(str(objective.metric), objective.mode)


def objectives_of(config: DictConfig, settings: Settings) -> list[Objective]:
    """The objective of every training, and those that the sweep adds."""
    others = (Objective(*pair) for pair in settings.more_objectives.items())
    return [objective_of(config, settings), *others]


def default_options(kind: str, name: str) -> dict[str, Any]:
    """The options of a sampler or a pruner in its config file."""
    return plain(OmegaConf.load(project().configs / f"hydra/sweeper/{kind}/{name}.yaml"))
