"""Checkpoints by name: `last` and `best` of the newest run, `<run>/best` of another."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .difference import find_run
from .manifest import read_manifest
from .table import collect_rows, without_trials

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
# The options that take a checkpoint.
OPTIONS = ("ckpt_path", "weights_from")
# `swa` and `ema` hold averaged weights.
NAMES = ("last", "best", "swa", "ema")


def resolve_checkpoints(cfg: DictConfig) -> None:
    """Replace checkpoints that are given by name with their files, and log which they are.

    Raises:
        UserError: there is no such run, or it has no such checkpoint.
    """
    for option in OPTIONS:
        value = OmegaConf.select(cfg, option, throw_on_missing=False)
        if not isinstance(value, str):
            continue
        path = find_checkpoint(value, Path(cfg.paths.log_dir), _own_folder(cfg))
        if path != value:
            cfg[option] = path
            log.info("%s=%s is %s", option, value, path)


def find_checkpoint(value: str, log_dir: Path, own: Path | None = None) -> str:
    """The file that `last`, `best`, `<run>/last` or `<run>/best` names; other text is a path.

    A file of that name takes precedence.

    Args:
        value: what the command says.
        log_dir: the folder of all runs.
        own: the folder of the run that is starting, which is not the newest one.

    Raises:
        UserError: there is no such run, or it has no such checkpoint.
    """
    run, slash, name = value.rpartition("/")
    is_name = name in NAMES and bool(run) == bool(slash)
    if not is_name or Path(value).expanduser().is_file():
        return value
    folder = find_run(run, log_dir) if run else newest_run(log_dir, own)
    if folder is None:
        raise UserError(f"There is no run below {log_dir} that {value!r} could be from.")
    path = folder / CHECKPOINTS / f"{name}.ckpt"
    if not path.is_file():
        raise UserError(f"{folder} has no {name} checkpoint; {_existing(folder)}.")
    return str(path)


def newest_run(log_dir: Path, own: Path | None = None) -> Path | None:
    """The run that started last; None if there is none.

    Trials of sweeps and folds of cross-validations do not count, nor does the run that is starting
    and the cross-validation it belongs to.
    """
    rows = without_trials(collect_rows(log_dir)) if log_dir.is_dir() else []
    runs = [log_dir / row["run"] for row in rows if row["started"]]
    others = [run for run in runs if own is None or not own.is_relative_to(run)]
    return others[-1] if others else None


def _existing(folder: Path) -> str:
    names = sorted(path.stem for path in (folder / CHECKPOINTS).glob("*.ckpt"))
    if read_manifest(folder).get("folds"):
        return f"it is a cross-validation: name a fold, such as {folder.name}/fold_0/best"
    return f"there are: {', '.join(names)}" if names else "it has not written any yet"


def _own_folder(cfg: Any) -> Path | None:
    folder = OmegaConf.select(cfg, "paths.output_dir", throw_on_resolution_failure=False)
    return Path(folder) if folder else None
