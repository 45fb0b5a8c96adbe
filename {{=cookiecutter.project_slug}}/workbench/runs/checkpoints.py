"""Reading checkpoints without running what is in them."""

import difflib
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .slurm import restart_count

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

# What every checkpoint has that a run of this project wrote,
PARTS = {
    "model_class": str,
    "state_dict": dict,
    "epoch": int,
    "global_step": int,
    "pytorch-lightning_version": str,
}
# and what a checkpoint has unless there is nothing to save.
OPTIONAL_PARTS = {"hyper_parameters": dict, "data_facts": dict, "loops": dict}
# torch.compile puts it into the names of the weights of a module that it wraps.
COMPILED = "_orig_mod."


def check_file(path: str | Path) -> None:
    """Refuse a file that cannot be a checkpoint, without the seconds that torch takes.

    Raises:
        UserError: no such file, or none that torch has written to its end.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}{_hint(path)}.")
    # The table of contents is at the end.
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} cannot be read as a checkpoint: it is cut off, or something else.")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint of this project, tensors on the CPU.

    `weights_only=True`: nothing in the file is ever executed.

    Raises:
        UserError: no such file, not readable, or not a checkpoint of a model of this project.
    """
    import torch

    path = Path(path)
    check_file(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint: it is damaged, or holds objects other than "
            "plain values and tensors, which could run any code."
        ) from error
    if not isinstance(checkpoint, dict) or "model_class" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of this project: it names no model of it.")
    kinds = PARTS | {name: kind for name, kind in OPTIONAL_PARTS.items() if name in checkpoint}
    wrong = [name for name, kind in kinds.items() if not isinstance(checkpoint.get(name), kind)]
    if not wrong:
        weights = checkpoint["state_dict"].items()
        wrong = [f"weight {name}" for name, value in weights if not _is_weight(name, value)]
    if wrong:
        raise UserError(f"{path} is a damaged checkpoint: its {wrong[0]} is not what it should be.")
    return checkpoint


def _is_weight(name: str, value: object) -> bool:
    """Whether a value can be part of a state_dict; metrics may hold lists of tensors."""
    import torch

    # A module may return anything from get_extra_state().
    if str(name).endswith("_extra_state"):
        return True
    return all(map(torch.is_tensor, value)) if isinstance(value, list) else torch.is_tensor(value)


def load_model(path: str | Path, trust_config: bool = False) -> "LightningModule":
    """The model in a checkpoint, on the CPU and ready to predict.

    Args:
        path: the checkpoint.
        trust_config: whether the `config.yaml` of its run may name anything, see `rebuild`.

    Raises:
        UserError: the file is not a checkpoint of this project, or its model cannot be rebuilt.
    """
    # Imported here: this module is imported before anything heavy.
    from .rebuilding import rebuild

    return rebuild(path, trust_config).model


def check_resumable(
    path: str | Path, checkpoint: dict[str, Any], model: "LightningModule", trainer: "Trainer"
) -> None:
    """Refuse a checkpoint from which `model` cannot be resumed, before anything is built on it.

    Raises:
        UserError: of another model, or already trained for as long as `trainer` would.
    """
    from .record import class_name

    saved_class = str(checkpoint["model_class"])
    if saved_class != class_name(type(model)):
        raise UserError(
            f"{path} holds a {saved_class.rpartition(':')[2]} and this run trains a "
            f"{type(model).__name__}: give the options of the first run."
        )
    saved, built = _shapes(checkpoint["state_dict"]), _shapes(model.state_dict())
    names = saved.keys() | built.keys()
    if is_built_later(model) or not model.strict_loading:
        names = saved.keys() & built.keys()
    for name in sorted(names):
        before, after = saved.get(name, "missing"), built.get(name, "missing")
        if before != after:
            raise UserError(
                f"{path} does not fit this model: {name} is {before} in the checkpoint and "
                f"{after} here; give the model and data options of the first run."
            )
    if "optimizer_states" not in checkpoint or "loops" not in checkpoint:
        raise UserError(
            f"{path} holds weights alone, nothing to go on training from: resume from last.ckpt."
        )
    epochs, steps = trained_epochs(checkpoint), int(checkpoint["global_step"])
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        raise UserError(
            f"{path} has already finished {epochs} epochs: set trainer.max_epochs above {epochs}."
        )
    if 0 <= trainer.max_steps <= steps:
        raise UserError(
            f"{path} has already made {steps} steps: set trainer.max_steps above {steps}."
        )


def is_built_later(model: "LightningModule") -> bool:
    """Whether a model may get layers in a hook, once it has a trainer."""
    from pytorch_lightning.utilities.model_helpers import is_overridden

    return any(is_overridden(hook, model) for hook in ("setup", "configure_model"))


def _shapes(weights: dict[str, Any]) -> dict[str, tuple[int, ...] | str]:
    """Name and shape of each weight."""
    import torch

    tensors = {name: value for name, value in weights.items() if torch.is_tensor(value)}
    return {name.replace(COMPILED, ""): tuple(value.shape) for name, value in tensors.items()}


def trained_epochs(checkpoint: dict[str, Any]) -> int:
    """How many epochs a checkpoint has finished; one that it was saved within does not count."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def find_resumed(ckpt_path: str | None, directory: Path) -> Path | None:
    """The checkpoint that a run in `directory` resumes from, None for a new run.

    A requeued SLURM job resumes from the newest of what Lightning saved when the job was told to
    end, and the last regular checkpoint: a preempted node may not have had time for the former.
    """
    if ckpt_path is not None:
        return Path(ckpt_path)
    left = list(directory.glob("hpc_ckpt_*.ckpt")) if "SLURM_JOB_ID" in os.environ else []
    if restart_count() > 0:
        left += directory.glob("checkpoints/last.ckpt")
    return max(left, key=lambda path: path.stat().st_mtime, default=None)


def _hint(path: Path) -> str:
    folder = next((parent for parent in path.parents if parent.is_dir()), None)
    # Searching the whole disk for a mistyped path would take longer than typing it again.
    if folder is None or folder in (Path(), Path("/")):
        return ""
    found = [str(other) for other in folder.glob("**/*.ckpt")]
    close = difflib.get_close_matches(str(path), found, n=1, cutoff=0.0)
    return f"; the nearest is {close[0]}" if close else ""
