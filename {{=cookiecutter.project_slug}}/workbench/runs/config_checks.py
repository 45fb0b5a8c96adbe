"""Mistakes in a config that would only show after a while, found before training."""

import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf, open_dict

from ..errors import UserError, nearest
from ..project import project
from .checkpoint_choice import resolve_checkpoints
from .loading import plain
from .value_checks import check_values

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

NUMBERS = {int, float, bool}
# Without these nothing works; evaluate.py finds the data out itself.
PARTS = ("model", "objective", "optimizer", "paths", "scheduler", "trainer")


def check_top_level(cfg: DictConfig) -> None:
    """Refuse top-level keys that nothing reads, such as a misspelt `optimzer:` in an experiment.

    Known are the keys and the groups of `configs/train.yaml`; add your own there.

    Raises:
        UserError: an unknown key.
    """
    known = known_keys(cfg.task_name)
    for key in map(str, cfg):
        if key not in known:
            raise UserError(
                f"The config has a key {key!r} that nothing reads; {nearest(key, known)}"
            )


@cache
def known_keys(task: str) -> list[str]:
    """The keys and the groups of `configs/<task>.yaml`."""
    base = plain(OmegaConf.load(project().configs / f"{task}.yaml"), resolve=False)
    groups = [next(iter(entry)) for entry in base.pop("defaults") if not isinstance(entry, str)]
    # A search space is the sweeper's: its files write below hydra.sweeper.
    return [key for key in (*base, *groups) if key != "search_space"]


def check_complete(cfg: DictConfig) -> None:
    """Refuse what the config alone shows to be wrong, before anything is imported.

    Raises:
        UserError: a value is missing or impossible, a part of the config is left out, or no true or
            false is where a switch is.
    """
    if "objective" in cfg and cfg.objective is None:
        # References to its metric then find none, instead of failing.
        with open_dict(cfg):
            cfg.objective = {"metric": None, "mode": "min"}
    for key in PARTS:
        if key in known_keys(cfg.task_name) and not isinstance(cfg.get(key), DictConfig):
            is_group = (project().configs / key).is_dir()
            how = f"choose one of configs/{key}/" if is_group else f"set {key}.<option>=<value>"
            raise UserError(f"{key} holds options and cannot be one value or be left out: {how}.")
    for key in sorted(OmegaConf.missing_keys(cfg)):
        raise UserError(f"{key} has no value: add {key}=... to the command.")
    for key in ("compile", "test", "trust_config"):
        if not isinstance(cfg.get(key, False), bool):
            raise UserError(f"{key} is true or false, not {cfg[key]!r}.")
    check_top_level(cfg)
    resolve_checkpoints(cfg)
    check_values(cfg)


def check_config(cfg: DictConfig) -> None:
    """Refuse everything that the config alone shows to be wrong.

    Raises:
        UserError: see `check_complete` and `check_arguments`.
    """
    check_complete(cfg)
    check_arguments(cfg)


def check_arguments(cfg: DictConfig) -> None:
    """Refuse arguments that the thing they are given to does not take.

    Raises:
        UserError: an unknown argument, or a `_target_` that cannot be imported.
    """
    for name, node in _targets(cfg, ""):
        target = node._target_
        module, _, attribute = str(target).rpartition(".")
        try:
            called = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            raise UserError(f"{name}._target_={target} cannot be imported: {error}.") from error
        parameters = _parameters(called)
        _check_required(name, node, parameters)
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            continue
        for key in map(str, node):
            if not key.startswith("_") and key not in parameters:
                raise UserError(
                    f"{target.rpartition('.')[2]} takes no argument {key!r} ({name}.{key}); "
                    f"{nearest(key, parameters)}"
                )
        _check_numbers(called, name, node)


def _check_required(
    name: str, node: DictConfig, parameters: Mapping[str, inspect.Parameter]
) -> None:
    """Refuse a part of the config without an argument that it needs.

    The data tell the model some of its arguments, so those of a model are checked later.
    """
    if name.partition(".")[0] not in ("callbacks", "data", "logger"):
        return
    if node.get("_partial_") or "_args_" in node:
        return
    for key, parameter in parameters.items():
        is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if is_named and parameter.default is parameter.empty and key not in node:
            raise UserError(
                f"{str(node._target_).rpartition('.')[2]} requires {key}: add +{name}.{key}=... to "
                "the command, or the key to its config."
            )


@cache
def _parameters(called: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):
        # Written in C, so it can be called with anything.
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def monitored_metrics(cfg: DictConfig, callbacks: Iterable[object]) -> dict[str, str]:
    """The metrics that something waits for, by the option or the callback that names them.

    Raises:
        UserError: the objective has no direction.
    """
    if cfg.objective.mode not in ("min", "max"):
        raise UserError(f"objective.mode is min or max, not {cfg.objective.mode!r}.")
    monitored = {"objective.metric": cfg.objective.metric}
    monitored |= {f"the monitor of {type(c).__name__}": _monitor(c) for c in callbacks}
    return {owner: str(metric) for owner, metric in monitored.items() if metric is not None}


def check_objective(monitored: Mapping[str, str], metric_names: Sequence[str]) -> None:
    """Refuse to monitor a metric that the model does not log.

    Raises:
        UserError: the first that is never logged.
    """
    for owner, metric in monitored.items():
        if metric not in metric_names:
            raise UserError(
                f"{owner} is {metric!r}, which the model does not log; "
                f"{nearest(metric, metric_names)}"
            )


def check_combinations(cfg: DictConfig, trainer: "Trainer", scheduler: DictConfig) -> None:
    """Refuse options that cannot mean anything together.

    Args:
        cfg: the run's config.
        trainer: the run's.
        scheduler: the config of the schedule; empty for a model that does not read it.

    Raises:
        UserError: more processes than cores, two averages of the weights, an average from a share
            of an endless training, or something that goes by a validation that does not take place.
    """
    from pytorch_lightning.accelerators import CPUAccelerator

    from ..callbacks import WeightAverage

    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > 2 * cores:
        raise UserError(
            f"trainer.devices={trainer.num_devices} asks for as many processes, and this machine "
            f"has {cores} cores: give fewer."
        )
    averages = [c for c in trainer.callbacks if isinstance(c, WeightAverage)]
    if len(averages) > 1:
        raise UserError(
            "SWA and EMA both average the weights: leave one out, with callbacks.swa=null or "
            "callbacks.ema=null."
        )
    endless = trainer.max_epochs == -1 and trainer.max_steps == -1
    for callback in averages:
        if endless and callback.start > 0:
            raise UserError(
                f"{type(callback).__name__} starts after a share of the training, which has no "
                "end: set trainer.max_epochs or trainer.max_steps."
            )
    watchers = [(type(c).__name__, _monitor(c)) for c in trainer.callbacks]
    watchers.append((f"scheduler={scheduler.get('name')}", scheduler.get("monitor")))
    for name, metric in watchers:
        if re.match(r"val[/_]", str(metric)) and trainer.limit_val_batches == 0:
            raise UserError(
                f"{name} goes by {metric} and limit_val_batches=0 leaves nothing to validate: "
                "validate, or set objective.metric=train/loss and objective.mode=min."
            )
    if scheduler.get("name") != "plateau":
        return
    if scheduler.get("monitor") is None:
        raise UserError(
            "scheduler=plateau monitors the objective, and there is none: set scheduler.monitor, "
            "or choose another scheduler."
        )
    every = trainer.check_val_every_n_epoch
    if every != 1:
        raise UserError(
            "scheduler=plateau looks at the objective after every epoch: set "
            f"trainer.check_val_every_n_epoch=1, not {every}, or take another scheduler."
        )


def _check_numbers(called: Any, name: str, node: DictConfig) -> None:
    """Refuse text where a number belongs, and fractions where a whole number does."""
    try:
        hints = get_type_hints(called.__init__ if inspect.isclass(called) else called)
    except (AttributeError, NameError, TypeError):
        # A hint may name something that is only imported for type checkers.
        return
    for key in map(str, node):
        types = set(get_args(hints.get(key)) or [hints.get(key)]) - {NoneType}
        value = node[key]
        if types and types <= NUMBERS and isinstance(value, str):
            raise UserError(f"{name}.{key} is a number, not {value!r}.")
        if types == {int} and isinstance(value, float):
            raise UserError(f"{name}.{key} is a whole number, not {value!r}.")


def _monitor(callback: object) -> Any:
    return getattr(callback, "monitor", None)


def _targets(node: Any, name: str) -> Iterator[tuple[str, DictConfig]]:
    if not isinstance(node, DictConfig) or node._is_none():
        return
    if "_target_" in node:
        yield name, node
    for key in map(str, node):
        yield from _targets(node._get_node(key), f"{name}.{key}".lstrip("."))
