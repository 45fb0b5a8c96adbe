"""Reads the command of a sweep into a plan, and rejects most invalid commands."""

import hashlib
import json
import pickle  # nosec B403
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from ..config_checks import check_complete, check_values
from ..errors import UserError
from ..runs.config import plain
from ..runs.directory import check_writable
from . import application
from .automatic_pruner import can_promote, settled
from .engines import check_workers, load_engine
from .enqueue import put_first, read_points
from .plan import DEFAULT_TRIALS, Base, Plan, make_base, most_trials, parsed
from .promotion import PROMOTE
from .settings import (
    LARGEST_GRID,
    Settings,
    Tested,
    check_study_name,
    default_options,
    objectives_of,
    read_settings,
)
from .space import Space, leave_out_missing, options_of, parse_space, text
from .types import Objective, Value


def make_plan(config_loader: ConfigLoader, master: DictConfig, arguments: list[str]) -> Plan:
    """Read a command.

    Args:
        config_loader: composes the configs of the trials.
        master: the config of the command, including `hydra.sweeper`.
        arguments: the options of the command.

    Raises:
        UserError: an option with which no trial would work.
    """
    if "objective" not in master and "direction" not in master.hydra.sweeper:
        raise UserError("Only train.py can sweep: remove -m.")
    settings = read_settings(master.hydra.sweeper)
    check_workers(settings)
    if "search_space" in master:
        raise UserError(
            "The file of a search space must begin with # @package hydra.sweeper.search_space."
        )
    space, fixed = parse_space(settings.search_space, arguments, config_loader)

    def compose(options: list[str]) -> DictConfig:
        return config_loader.load_sweep_config(master, [*fixed, *options])

    return plan_for(config_loader, master, leave_out_missing(space, compose), fixed)


def narrowed(plan: Plan, space: Space) -> Plan:
    """The plan for a reduced search space.

    Raises:
        UserError: the space is empty, or too small for other options of the command.
    """
    return plan_for(plan.base.config_loader, plan.base.master, space, plan.fixed)


def plan_for(
    config_loader: ConfigLoader, master: DictConfig, space: Space, fixed: list[str]
) -> Plan:
    """The plan of a command, of which `fixed` are the options that do not vary.

    Raises:
        UserError: an option with which no trial would work.
    """
    settings = read_settings(master.hydra.sweeper)
    if not space.parameters:
        raise UserError(_nothing_varies(master))
    points = _laid_out_points(settings, space)
    settings, why_pruner = _with_pruner(settings, space, points)
    if settings.is_application or not master.test:
        settings = replace(settings, test=Tested.NOTHING)
    base = make_base(config_loader, master, fixed, space, settings)
    # Detects mistakes in varied options before the heavy imports.
    first = space.sample(lambda parameter: parameter.first())
    if base.is_application:
        application.check_options(base, options_of(first))
    else:
        composed = config_loader.load_sweep_config(master, [*base.fixed, *options_of(first)])
        _check_trials(composed, space)
    # Pickled by `make_base`.
    objectives = objectives_of(pickle.loads(base.composed), settings)  # nosec B301
    # Here, as it does not import Optuna.
    read_points(settings.enqueue, space)
    name = settings.study_name or _study_name(master, base, space, objectives, settings)
    check_study_name(name)
    folder = (Path(master.hydra.sweep.dir) / name).absolute()
    plan = Plan(
        folder=folder,
        name=name,
        settings=settings,
        space=space,
        base=replace(base, study=name),
        objectives=objectives,
        fixed=fixed,
        points=points,
        why_pruner=why_pruner,
    )
    plan = plan if why_pruner is None else settled(plan)
    plan.engine.check(plan.settings, space, base.folds)
    _check_pruner(plan)
    check_writable(folder)
    return plan


def _nothing_varies(master: DictConfig) -> str:
    """A message with an example, an option of the chosen model."""
    model = master.get("model")
    options = plain(model, resolve=False) if isinstance(model, DictConfig) else {}
    example = next(_numbers(options, "model"), "seed")
    return (
        f"No option varies: give an option several values, such as {example}=<value>,"
        "<value>, or search_space=<one of configs/search_space/>."
    )


def _numbers(node: Any, name: str) -> Iterator[str]:
    """The names of all numeric options in a config."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _numbers(value, f"{name}.{key}")
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield name


def _check_trials(composed: DictConfig, space: Space) -> None:
    """Reject values that no training accepts, including all values that vary."""
    config = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    # Set by Hydra only when a trial runs.
    OmegaConf.update(config, "paths.output_dir", ".")
    check_complete(config)
    for parameter in space.parameters:
        for value in parameter.choices or (parameter.low, parameter.high):
            if not parameter.is_group:
                changed = config.copy()
                key = parameter.key.lstrip("+")
                OmegaConf.update(changed, key, parsed(f"{key}={text(value)}"), force_add=True)
                check_values(changed)


def _check_pruner(plan: Plan) -> None:
    """Reject a pruner that does not suit the sweep.

    Raises:
        UserError: there are several objectives, or a trial could pause in another than its first
            seed or fold.
    """
    name = plan.settings.pruner.get("name")
    if len(plan.objectives) > 1 and name != "none":
        raise UserError(
            f"hydra/sweeper/pruner={name} judges trials by one objective, and this sweep has "
            f"{len(plan.objectives)}: remove the pruner or hydra.sweeper.more_objectives."
        )
    if name == PROMOTE and not can_promote(plan):
        raise UserError(
            "hydra/sweeper/pruner=promote compares configurations by their first seed or fold, "
            "whose length is not known: give trainer.max_epochs=<number>, with one validation per "
            "epoch, or use another pruner."
        )


def _study_name(
    master: DictConfig, base: Base, space: Space, objectives: list[Objective], settings: Settings
) -> str:
    """A name that depends on the options, so that the same command finds its study again."""
    about = [sorted(base.fixed), repr(space), repr(objectives), settings.seeds, settings.limits]
    # As given, before `auto` is replaced.
    asked = plain(master.hydra.sweeper)
    about += [load_engine(settings.engine).name, asked["sampler"], asked["pruner"]]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    name = master.hydra.job.name if settings.is_application else master.name
    return f"{name}-{digest[:6]}"


def _with_pruner(
    settings: Settings, space: Space, points: list[dict[str, Value]] | None
) -> tuple[Settings, str | None]:
    """The settings with `pruner=auto` replaced by a pruner, and why; None if one is named."""
    if settings.pruner.get("name") != "auto":
        return settings, None
    listed = read_points(settings.enqueue, space)
    is_list = len(listed) >= most_trials(settings)
    sampler = str(settings.sampler.get("name"))
    is_grid = points is not None or is_list or sampler == "bruteforce"
    name, reason = load_engine(settings.engine).automatic_pruner(sampler), "for a search"
    if settings.more_objectives:
        name, reason = "none", "as trials cannot be judged by one of several objectives"
    elif is_grid:
        name, reason = "none", "as all results of a grid or a list are wanted"
    return replace(settings, pruner=default_options("pruner", name)), reason


def _laid_out_points(settings: Settings, space: Space) -> list[dict[str, Value]] | None:
    """All configurations, if the space is small or a grid was requested; otherwise None."""
    finite = [p for p in space.parameters if p.choices or p.step]
    size = 1
    for parameter in finite:
        size *= len(parameter.points())
    is_grid = settings.sampler.get("name") == "grid"
    if is_grid and size > LARGEST_GRID:
        raise UserError(f"This grid has {size} configurations: vary less, or use another sampler.")
    small = len(finite) == len(space.parameters) and size <= (settings.n_trials or DEFAULT_TRIALS)
    if not (is_grid or small):
        return None
    return put_first(space.grid(), read_points(settings.enqueue, space))
