"""What a checkpoint records about its run, and whether a run can be resumed from it."""

import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from ..project import project
from .checkpoints import CHECKPOINTS, COMPILED, is_built_later
from .config import Fingerprints, flatten
from .slurm import restart_count

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

log = logging.getLogger(__name__)

# The checkpoint restores these, so a new value would be ignored; or another value would change the
# steps, epochs, order, split or best of the run, which would then not be a continuation.
FIXED = (
    "optimizer.",
    "scheduler.",
    "objective.",
    "seed",
    "data.batch_size",
    "data.split_seed",
    "data.val_fraction",
    "data.test_fraction",
    "data.fold",
    "data.group",
    "data.split_column",
    "trainer.accumulate_grad_batches",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
)
# These take effect from the resume on, and are logged.
NOTED = ("model.", "data.", "trainer.precision", "trainer.gradient_clip_")
# All others, such as loggers, callbacks, devices and limits, do not change what is trained.
FREE = ("data.num_workers",)
ABSENT = "absent"


def make_record(
    config: dict[str, Any],
    model: "LightningModule",
    datamodule: "LightningDataModule",
    facts: dict[str, Any],
) -> dict[str, Any]:
    """The entries that every checkpoint of a run gets.

    Args:
        config: the run's config as plain values.
        model: the run's model.
        datamodule: the run's data.
        facts: the arguments of the model that come from the data.

    Returns:
        `model_class`; `data_facts`; `trained_on`, size and fingerprint of each split; and
        `trained_with`, the options that a resumed run must share.
    """
    return {
        "model_class": class_name(type(model)),
        "data_facts": facts,
        "trained_on": fingerprints(datamodule),
        "trained_with": options_of_training(config),
    }


def class_name(model_class: type) -> str:
    """The name of a class in a checkpoint, such as `models.classifier:Classifier`.

    Classes of the project are named relative to it, so a checkpoint survives a renamed project.
    """
    module = model_class.__module__
    return f"{module.removeprefix(f'{project().package}.')}:{model_class.__qualname__}"


def fingerprints(datamodule: "LightningDataModule") -> Fingerprints:
    """Size and fingerprint of each split; empty for a datamodule without this method."""
    method = getattr(datamodule, "fingerprints", None)
    return method() if callable(method) else {}


def options_of_training(config: dict[str, Any]) -> dict[str, Any]:
    """The options of a run's config by which a resumed run is compared.

    Text in `data` is left out, except for the names of columns that determine the split: it says
    where the data are, and may contain a password.
    """
    return {
        name: value
        for name, value in flatten(config).items()
        if name.startswith((*FIXED, *NOTED))
        and name not in FREE
        and value != {}
        and not (name.startswith("data.") and isinstance(value, str) and name not in FIXED)
    }


def find_resumed(ckpt_path: str | None, directory: Path) -> Path | None:
    """The checkpoint that a run in `directory` resumes from; None for a new run.

    A requeued SLURM job resumes from the newer of the checkpoint that Lightning saved when the job
    was told to end and the last regular one: a preempted node may have had no time for the former.
    """
    if ckpt_path is not None:
        return Path(ckpt_path)
    left = list(directory.glob("hpc_ckpt_*.ckpt")) if "SLURM_JOB_ID" in os.environ else []
    if restart_count() > 0:
        left += directory.glob(f"{CHECKPOINTS}/last.ckpt")
    return max(left, key=lambda path: path.stat().st_mtime, default=None)


def check_resumable(path: str | Path, checkpoint: dict[str, Any], model: "LightningModule") -> None:
    """Reject a checkpoint from which `model` cannot be resumed.

    Raises:
        UserError: it is of another model, or contains only weights.
    """
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
            f"{path} contains only weights, which is not enough to resume: use last.ckpt."
        )


def check_unfinished(path: str | Path, checkpoint: dict[str, Any], trainer: "Trainer") -> None:
    """Reject a checkpoint that was already trained for as long as `trainer` would.

    Raises:
        UserError: nothing is left to train.
    """
    epochs, steps = trained_epochs(checkpoint), int(checkpoint["global_step"])
    if trainer.max_epochs is not None and 0 <= trainer.max_epochs <= epochs:
        raise UserError(
            f"{path} has already finished {epochs} epochs: set trainer.max_epochs above {epochs}."
        )
    if 0 <= trainer.max_steps <= steps:
        raise UserError(
            f"{path} has already made {steps} steps: set trainer.max_steps above {steps}."
        )


def _shapes(weights: dict[str, Any]) -> dict[str, tuple[int, ...] | str]:
    """Name and shape of each weight."""
    import torch

    tensors = {name: value for name, value in weights.items() if torch.is_tensor(value)}
    return {name.replace(COMPILED, ""): tuple(value.shape) for name, value in tensors.items()}


def trained_epochs(checkpoint: dict[str, Any]) -> int:
    """The number of finished epochs; one in which the checkpoint was saved does not count."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def check_options(
    path: str, before: dict[str, Any], now: dict[str, Any], found: Collection[str]
) -> None:
    """Refuse to resume with options that a resumed run cannot change, and log other changes.

    Args:
        path: the checkpoint.
        before: the options of its run.
        now: those of this run.
        found: options that a finder takes from the checkpoint.

    Raises:
        UserError: a fixed option has another value.
    """
    changed = {}
    for name in sorted((before.keys() | now.keys()) - set(found)):
        old, new = before.get(name, ABSENT), now.get(name, ABSENT)
        if old != new:
            changed[name] = f"{name} is {old} in the checkpoint and {new} here"
    refused = [text for name, text in changed.items() if name.startswith(FIXED)]
    if refused:
        raise UserError(
            f"A resumed run keeps its options, but {', '.join(refused)}: give the values of the "
            f"checkpoint, or start a new training from its weights with weights_from={path}."
        )
    for text in changed.values():
        log.warning("resumed with another option: %s", text)


def warn_of_other_data(before: Fingerprints, now: Fingerprints) -> None:
    """Log the splits that differ from those that a checkpoint was trained on."""
    changed = [part for part, content in now.items() if before.get(part, content) != content]
    if changed:
        log.warning(
            "the data have changed since the checkpoint was written: %s; metrics from before and "
            "after cannot be compared",
            ", ".join(f"{part} ({_sizes(before, now, part)})" for part in changed),
        )


def _sizes(before: Fingerprints, now: Fingerprints, part: str) -> str:
    """For example "1168 samples, now 1200", or "1168 samples, with other content"."""
    old, new = before[part]["samples"], now[part]["samples"]
    change = "with other content" if old == new else f"now {new}"
    return f"{old} samples, {change}"
