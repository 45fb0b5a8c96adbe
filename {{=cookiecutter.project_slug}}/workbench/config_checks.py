"""Mistakes that the config alone shows, reported before anything heavy is imported."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from omegaconf import DictConfig, OmegaConf, open_dict

from .checks import DATA_CHECKS, check_bool, check_choice, check_integer, check_number, require
from .errors import UserError, nearest
from .project import project
from .runs.checkpoints import check_file, resolve_checkpoints
from .runs.config import plain
from .runs.directory import check_name

# NumPy accepts no larger seed.
LARGEST_SEED = 2**32 - 1
positive = partial(check_integer, least=1)
not_negative = partial(check_integer, least=0)
at_least_zero = partial(check_number, least=0)
above_zero = partial(check_number, above=0)
between_zero_and_one = partial(check_number, above=0, below=1)
# The checks of options, as far as a command has them and sets them.
CHECKS: dict[str, Callable[[str, Any], None]] = DATA_CHECKS | {
    "batch_size": positive,
    "callbacks.early_stopping.patience": not_negative,
    "callbacks.last_checkpoint.every_n_minutes": at_least_zero,
    "objective.mode": partial(check_choice, choices=("min", "max")),
    "optimizer.lr": at_least_zero,
    "optimizer.momentum": at_least_zero,
    "optimizer.weight_decay": at_least_zero,
    "scheduler.every": positive,
    "scheduler.factor": between_zero_and_one,
    "scheduler.final": at_least_zero,
    "scheduler.patience": not_negative,
    "scheduler.warmup": partial(check_number, least=0, most=1),
    "split": partial(check_choice, choices=("val", "test")),
    "trainer.accumulate_grad_batches": positive,
    "trainer.check_val_every_n_epoch": positive,
    "trainer.gradient_clip_val": at_least_zero,
    "trainer.limit_train_batches": above_zero,
    "trainer.log_every_n_steps": not_negative,
    "trainer.max_epochs": partial(check_integer, least=-1),
    "trainer.max_steps": partial(check_integer, least=-1),
    "trainer.num_nodes": positive,
    "trainer.val_check_interval": above_zero,
    "writing.length": positive,
    "writing.temperature": at_least_zero,
}
SWITCHES = ("compile", "test", "trust_config")
# An empty one would mean the folder of the command.
PATHS = ("ckpt_path", "weights_from", "data.path", "input", "output", "paths.log_dir")
LOGGERS = ("wandb", "mlflow")
NUMBERS = {int, float, bool}
# Nothing works without these; evaluate.py finds the data itself.
PARTS = ("model", "objective", "optimizer", "paths", "scheduler", "trainer")


def check_config(cfg: DictConfig) -> None:
    """Reject everything that the config alone shows to be wrong.

    Raises:
        UserError: see `check_complete` and `check_arguments`.
    """
    check_complete(cfg)
    check_arguments(cfg)


def check_complete(cfg: DictConfig) -> None:
    """Reject what can be seen without importing anything, and resolve the names of checkpoints.

    Raises:
        UserError: a value is missing or invalid, or a part of the config is missing.
    """
    if "objective" in cfg and cfg.objective is None:
        # References to its metric then find none, instead of failing.
        with open_dict(cfg):
            cfg.objective = {"metric": None, "mode": "min"}
    for key in PARTS:
        if key in known_keys(cfg.task_name) and not isinstance(cfg.get(key), DictConfig):
            is_group = (project().configs / key).is_dir()
            how = f"choose one of configs/{key}/" if is_group else f"set {key}.<option>=<value>"
            raise UserError(f"{key} must be a config group, not a single value or null: {how}.")
    # Hardly any config has one, and to name it takes long.
    if "???" in str(plain(cfg, resolve=False)):
        for key in sorted(OmegaConf.missing_keys(cfg)):
            raise UserError(f"{key} has no value: add {key}=... to the command.")
    for key in SWITCHES:
        check_bool(key, cfg.get(key, False))
    check_top_level(cfg)
    resolve_checkpoints(cfg)
    check_values(cfg)


def check_top_level(cfg: DictConfig) -> None:
    """Reject top-level keys that nothing reads, such as a misspelt `optimzer:` in an experiment.

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
    # A search space belongs to the sweeper: its files write below hydra.sweeper.
    return [key for key in (*base, *groups) if key != "search_space"]


def check_values(cfg: DictConfig) -> None:
    """Reject invalid values of options that every project has, and files that do not exist.

    Raises:
        UserError: the first one.
    """
    check_name(cfg.get("name"))
    check_integer("seed", cfg.get("seed"), 0, LARGEST_SEED, optional=True)
    for key, check in CHECKS.items():
        value = _get(cfg, key)
        if value is not None:
            check(key, value)
    for key in PATHS:
        value = _get(cfg, key)
        is_path = value is None or (isinstance(value, str) and value != "")
        require(is_path, key, "the path of a file or folder", value)
    is_one_batch = cfg.get("task_name") == "train" and _get(cfg, "trainer.fast_dev_run")
    if is_one_batch and cfg.ckpt_path is not None:
        raise UserError(
            "fast_dev_run tries one batch of a new training and cannot resume a checkpoint: leave "
            "ckpt_path out, or set trainer.fast_dev_run=false."
        )
    check_inputs(cfg)
    check_packages(cfg)


def check_inputs(cfg: DictConfig) -> None:
    """Reject input files that do not exist, and files that cannot be checkpoints.

    Raises:
        UserError: the first one.
    """
    checkpoint, weights = _get(cfg, "ckpt_path"), _get(cfg, "weights_from")
    if checkpoint is not None and weights is not None:
        raise UserError(
            "ckpt_path resumes a run and weights_from starts a new one from old weights: give one "
            "of them, and null for the other."
        )
    for path in (checkpoint, weights):
        if path is not None:
            check_file(path)
    for key in ("data.path", "input"):
        path = _get(cfg, key)
        # Custom datamodules may take a URL.
        if path is None or "://" in path:
            continue
        if not Path(path).expanduser().exists():
            raise UserError(f"There is no file or folder {path}: set {key} to an existing one.")


def check_packages(cfg: DictConfig) -> None:
    """Reject loggers whose package is not installed.

    Raises:
        UserError: the first one.
    """
    group = cfg.get("logger")
    for name in group if isinstance(group, Mapping | DictConfig) else ():
        if name in LOGGERS and find_spec(str(name)) is None:
            raise UserError(
                f"logger={name} needs the package {name}: install it with "
                f"`uv sync --extra {name}` or `pip install {name}`."
            )


def _get(cfg: DictConfig, key: str) -> Any:
    """The value of an option; None if the command has no such option."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, group) if group else cfg
    return node.get(name) if isinstance(node, DictConfig) else None


def check_arguments(cfg: DictConfig) -> None:
    """Reject arguments that a `_target_` does not take, and missing ones.

    Raises:
        UserError: an unknown or missing argument, or a `_target_` that cannot be imported.
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
    """Reject a part of the config that lacks a required argument.

    Some arguments of a model come from the data, so those of a model are checked later.
    """
    if name.partition(".")[0] not in ("callbacks", "data", "logger"):
        return
    keys = node.keys()
    if "_args_" in keys or ("_partial_" in keys and node._partial_):
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
        # Written in C: nothing is known about its arguments.
        return {"kwargs": inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}


def _check_numbers(called: Any, name: str, node: DictConfig) -> None:
    """Reject text in place of a number, and a float in place of an integer."""
    hints = _hints(called)
    for key in map(str, node):
        types = set(get_args(hints.get(key)) or [hints.get(key)]) - {NoneType}
        if not types or not types <= NUMBERS:
            continue
        value = node[key]
        is_text = isinstance(value, str)
        require(not is_text, f"{name}.{key}", "a number", value)
        is_fraction = types == {int} and isinstance(value, float)
        require(not is_fraction, f"{name}.{key}", "an integer", value)


@cache
def _hints(called: Callable[..., Any]) -> Mapping[str, Any]:
    """The types of the arguments; empty if they cannot be found."""
    try:
        return get_type_hints(called.__init__ if inspect.isclass(called) else called)
    except (AttributeError, NameError, TypeError):
        # A hint may name something that is only imported for type checkers.
        return {}


def _targets(node: Any, name: str) -> Iterator[tuple[str, DictConfig]]:
    if not isinstance(node, DictConfig) or node._is_none():
        return
    keys = [str(key) for key in node]
    if "_target_" in keys and "_target_" in node:
        yield name, node
    for key in keys:
        yield from _targets(node._get_node(key), f"{name}.{key}".lstrip("."))
