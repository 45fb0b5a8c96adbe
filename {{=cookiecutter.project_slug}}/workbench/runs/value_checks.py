"""Values that no command can work with, told before torch is imported."""

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .checkpoints import check_file
from .directory import check_name

# NumPy takes no larger one.
LARGEST_SEED = 2**32 - 1
# Whole numbers, and the least that each may be.
WHOLE = {
    "batch_size": 1,
    "callbacks.early_stopping.patience": 0,
    "data.batch_size": 1,
    "data.split_seed": 0,
    "scheduler.every": 1,
    "scheduler.patience": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.log_every_n_steps": 0,
    "trainer.max_epochs": -1,
    "trainer.max_steps": -1,
    "trainer.num_nodes": 1,
}
# Numbers, and the bounds between which each lies; "from" and "to" belong to it, "above" does not.
BOUNDS = {
    "callbacks.last_checkpoint.every_n_minutes": "from 0",
    "data.test_fraction": "above 0 and below 1",
    "data.val_fraction": "above 0 and below 1",
    "optimizer.lr": "from 0",
    "optimizer.momentum": "from 0",
    "optimizer.weight_decay": "from 0",
    "scheduler.factor": "above 0 and below 1",
    "scheduler.final": "from 0",
    "scheduler.warmup": "from 0 to 1",
    "trainer.gradient_clip_val": "from 0",
    "trainer.limit_train_batches": "above 0",
    "trainer.val_check_interval": "above 0",
}
WORDS = {"objective.mode": ("min", "max"), "split": ("val", "test")}
# An empty one would mean the folder of the command.
PATHS = ("ckpt_path", "weights_from", "data.path", "input", "output", "paths.log_dir")
LOGGERS = ("wandb", "mlflow")


def check_values(cfg: DictConfig) -> None:
    """Refuse numbers out of their bounds, words that mean nothing, and files that are not there.

    Raises:
        UserError: the first that is found.
    """
    check_name(cfg.get("name"))
    check_seed(cfg.get("seed"))
    for key, least in WHOLE.items():
        value = _get(cfg, key)
        if value is not None and not (type(value) is int and value >= least):
            raise UserError(f"{key} is a whole number of at least {least}, not {value!r}.")
    for key, bounds in BOUNDS.items():
        value = _get(cfg, key)
        if value is not None and not _lies(value, bounds):
            raise UserError(f"{key} is a number {bounds}, not {value!r}.")
    for key, words in WORDS.items():
        value = _get(cfg, key)
        if value is not None and value not in words:
            raise UserError(f"{key} is {' or '.join(words)}, not {value!r}.")
    for key in PATHS:
        value = _get(cfg, key)
        if value is not None and not (isinstance(value, str) and value):
            raise UserError(f"{key} is the path of a file or folder, not {value!r}.")
    if isinstance(_get(cfg, "analyses"), str):
        raise UserError(f"analyses is a list, as analyses=[{cfg.analyses}].")
    is_one_batch = cfg.get("task_name") == "train" and _get(cfg, "trainer.fast_dev_run")
    if is_one_batch and cfg.ckpt_path is not None:
        raise UserError(
            "fast_dev_run tries one batch of a new training, and a checkpoint is past that: leave "
            "ckpt_path out, or set trainer.fast_dev_run=false."
        )
    check_inputs(cfg)
    check_packages(cfg)


def check_seed(seed: object) -> None:
    """Refuse seeds that not all random number generators take.

    Raises:
        UserError: not a whole number from 0 to 2**32 - 1, or null.
    """
    if seed is not None and not (type(seed) is int and 0 <= seed <= LARGEST_SEED):
        raise UserError(f"seed is a whole number from 0 to {LARGEST_SEED}, or null, not {seed!r}.")


def check_inputs(cfg: DictConfig) -> None:
    """Refuse files to read that are not there, and what cannot be a checkpoint."""
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
        # Your own data may lie at an address.
        if path is None or "://" in path:
            continue
        if not Path(path).expanduser().exists():
            raise UserError(f"{key}: there is no file or folder {path}.")


def check_packages(cfg: DictConfig) -> None:
    """Refuse loggers whose package is not installed."""
    group = cfg.get("logger")
    for name in group if isinstance(group, Mapping | DictConfig) else ():
        if name in LOGGERS and find_spec(str(name)) is None:
            raise UserError(
                f"logger={name} needs the package {name}: install it with "
                f"`uv sync --extra {name}` or `pip install {name}`."
            )


def _get(cfg: DictConfig, key: str) -> Any:
    """The value of an option, None where the command has no such option."""
    group, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, group) if group else cfg
    return node.get(name) if isinstance(node, DictConfig) else None


def _lies(value: Any, bounds: str) -> bool:
    """Whether a value is a number within `from 0`, `above 0`, `to 1` and `below 1`."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        return False
    low = value > 0 if "above 0" in bounds else value >= 0
    high = value < 1 if "below 1" in bounds else value <= 1 if "to 1" in bounds else True
    return low and high
