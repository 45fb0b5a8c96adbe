"""What a checkpoint tells of its run beside the weights."""

import logging
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from ..building import facts_of
from ..project import project
from .changed_options import options_of_training
from .checkpoint_file import CheckpointFile
from .loading import plain

log = logging.getLogger(__name__)


def class_name(model_class: type) -> str:
    """The name of a class for a checkpoint, such as `models.classifier:Classifier`.

    Classes of the project are named relative to it, so the checkpoint outlives a renamed project.
    """
    module = model_class.__module__
    return f"{module.removeprefix(f'{project().package}.')}:{model_class.__qualname__}"


def make_record(
    cfg: DictConfig, model: LightningModule, datamodule: LightningDataModule
) -> dict[str, Any]:
    """What every checkpoint of a run gets.

    Returns:
        `model_class`; `data_facts`, what the data told the model; `trained_on`, size and
        fingerprint of each split; and `trained_with`, the options that a resumed run must share.
    """
    return {
        "model_class": class_name(type(model)),
        "data_facts": facts_of(datamodule, cfg.model),
        "trained_on": fingerprints(datamodule),
        "trained_with": options_of_training(plain(cfg)),
    }


def fingerprints(datamodule: LightningDataModule) -> dict[str, dict[str, Any]]:
    """Size and fingerprint of each split; empty for a datamodule that does not tell them."""
    tell = getattr(datamodule, "fingerprints", None)
    return tell() if callable(tell) else {}


def note_in_checkpoints(trainer: Trainer, record: dict[str, Any]) -> None:
    """Let every checkpoint of a trainer get these entries, also if they change later."""
    writer = trainer.strategy.checkpoint_io
    if isinstance(writer, CheckpointFile):
        writer.record = record


def warn_of_other_data(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say which splits differ from those that a checkpoint was trained on."""
    changed = [part for part, content in now.items() if before.get(part, content) != content]
    if changed:
        log.warning(
            "the data have changed since the checkpoint was written: %s; metrics from before and "
            "after cannot be compared",
            ", ".join(f"{part} ({_sizes(before, now, part)})" for part in changed),
        )


def _sizes(before: dict[str, Any], now: dict[str, Any], part: str) -> str:
    """For example "1168 samples, now 1200", or "1168 samples, other ones"."""
    old, new = before[part]["samples"], now[part]["samples"]
    return f"{old} samples, other ones" if old == new else f"{old} samples, now {new}"
