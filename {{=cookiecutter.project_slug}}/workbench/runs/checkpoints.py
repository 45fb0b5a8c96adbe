"""Finding checkpoints and reading them without executing anything in them."""

import difflib
import logging
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .difference import find_run
from .manifest import read_manifest
from .table import collect_rows, without_trials

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

log = logging.getLogger(__name__)

# The folder of a run that holds its checkpoints.
CHECKPOINTS = "checkpoints"
# The options that take a checkpoint.
OPTIONS = ("ckpt_path", "weights_from")
# `swa` and `ema` hold averaged weights.
NAMES = ("last", "best", "swa", "ema")
# What every checkpoint of a run contains,
PARTS = {
    "model_class": str,
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}
# and what it contains unless there is nothing to save.
OPTIONAL_PARTS = {"hyper_parameters": dict, "data_facts": dict, "loops": dict}
# torch.compile puts it into the names of the weights of a module that it wraps.
COMPILED = "_orig_mod."


def resolve_checkpoints(cfg: DictConfig) -> None:
    """Replace checkpoints that are given by name with their files, and log these.

    Raises:
        UserError: there is no such run, or it has no such checkpoint.
    """
    folder = OmegaConf.select(cfg, "paths.output_dir", throw_on_resolution_failure=False)
    own = Path(folder) if folder else None
    for option in OPTIONS:
        value = OmegaConf.select(cfg, option, throw_on_missing=False)
        if not isinstance(value, str):
            continue
        path = find_checkpoint(value, Path(cfg.paths.log_dir), own)
        if path != value:
            cfg[option] = path
            log.info("%s=%s is %s", option, value, path)


def find_checkpoint(value: str, log_dir: Path, own: Path | None = None) -> str:
    """The file that `last`, `best`, `<run>/last` or `<run>/best` names; other text is a path.

    An existing file of that name takes precedence.

    Args:
        value: the value of the option.
        log_dir: the folder of all runs.
        own: the folder of the run that is starting, which does not count as the newest one.

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
    or the cross-validation that it belongs to.
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


def check_file(path: str | Path) -> None:
    """Reject a file that cannot be a checkpoint, without spending the seconds that torch takes.

    Raises:
        UserError: there is no such file, or torch did not write it to its end.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}{_hint(path)}.")
    # The table of contents is at the end.
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} cannot be read as a checkpoint: it is truncated or another file.")


def _hint(path: Path) -> str:
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    # Searching the whole disk for a mistyped path would take longer than typing it again.
    if folder is None or folder in (Path(), Path("/")):
        return ""
    found = [str(other) for other in folder.glob("**/*.ckpt")]
    close = difflib.get_close_matches(str(path), found, n=1, cutoff=0.0)
    return f"; the nearest is {close[0]}" if close else ""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project, tensors on the CPU.

    `weights_only=True`: nothing in the file is ever executed.

    Raises:
        UserError: there is no such file, it cannot be read, or it contains no model of a run.
    """
    import torch

    path = Path(path)
    check_file(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is damaged, or contains objects other than "
            "plain values and tensors, which could execute arbitrary code."
        ) from error
    if not isinstance(checkpoint, dict) or "model_class" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of this project: it names no model of it.")
    kinds = PARTS | {name: kind for name, kind in OPTIONAL_PARTS.items() if name in checkpoint}
    wrong = [name for name, kind in kinds.items() if not isinstance(checkpoint.get(name), kind)]
    if not wrong:
        weights = checkpoint["state_dict"].items()
        wrong = [f"weight {name}" for name, value in weights if not _is_weight(name, value)]
    if wrong:
        raise UserError(f"{path} is a damaged checkpoint: its {wrong[0]} is invalid.")
    return checkpoint


def _is_weight(name: str, value: object) -> bool:
    """Whether a value can be part of a state_dict; metrics may hold lists of tensors."""
    import torch

    # A module may return anything from get_extra_state().
    if str(name).endswith("_extra_state"):
        return True
    return all(map(torch.is_tensor, value)) if isinstance(value, list) else torch.is_tensor(value)


def is_built_later(model: "LightningModule") -> bool:
    """Whether a model may create layers in a hook, once it has a trainer."""
    from pytorch_lightning.utilities.model_helpers import is_overridden

    return any(is_overridden(hook, model) for hook in ("setup", "configure_model"))
