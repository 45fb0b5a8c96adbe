"""Checkpoint files that survive kills and full disks, and that are read without executing code."""

import logging
import shutil
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from omegaconf import Container, DictConfig, OmegaConf
from pytorch_lightning import Trainer
from torch import Tensor

from ..errors import UserError
from ..files import replacing

log = logging.getLogger(__name__)

# What `torch.load(weights_only=True)` reads besides containers and tensors.
PLAIN_TYPES = {
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    torch.dtype,
    torch.device,
    torch.layout,
}
TENSOR_TYPES = {Tensor, torch.nn.Parameter, torch.nn.Buffer}
HYPERPARAMETERS = ("hyper_parameters", "datamodule_hyper_parameters")
HYPERPARAMETER_TYPES = ("hparams_type", "datamodule_hparams_type")
LEFT_OUT = object()


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint beside the old one, which it replaces once it is complete.

    Lightning writes to the machine's temporary folder. Moving a file from there to another disk
    copies it over the old one, and a kill leaves the temporary file behind forever.

    Only plain values can be read, even if an environment variable tells torch otherwise. So other
    values, such as a network among the hyperparameters, are left out: the model is rebuilt from the
    run's `config.yaml`.

    Attributes:
        record: entries that every checkpoint gets, such as the class of the model.
    """

    def __init__(self) -> None:
        self.record: dict[str, Any] = {}
        self._reported: set[str] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        content = self._plain(checkpoint | self.record)
        with _complete(Path(path)) as partial, partial.open("wb") as file:
            torch.save(content, file)

    def copy_checkpoint(self, source: Path, path: Path) -> None:
        """Write a copy of a checkpoint; not a link, through which a change would reach both.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        with _complete(path) as partial:
            shutil.copyfile(source, partial)

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint without executing anything in it."""
        content: dict[str, Any] = super().load_checkpoint(
            path, *args, **options | {"weights_only": True}
        )
        return content

    def _plain(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """The part of a checkpoint that can be read back; the rest is logged once."""
        left_out: list[str] = []
        for key in HYPERPARAMETER_TYPES:
            checkpoint.pop(key, None)
        content = {
            key: plain_hyperparameters(value)
            if key in HYPERPARAMETERS
            else as_plain(value, key, left_out)
            for key, value in checkpoint.items()
        }
        lost = [name for name in left_out if name not in self._reported]
        self._reported.update(lost)
        if lost:
            log.warning(
                "left out of the checkpoints, because only tensors and plain values can be loaded "
                "safely: %s",
                ", ".join(lost),
            )
        return {key: value for key, value in content.items() if value is not LEFT_OUT}


@contextmanager
def _complete(path: Path) -> Iterator[Path]:
    """Yield the path of a partial file, which replaces the checkpoint once it is complete."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Always the same name: the next checkpoint overwrites what a kill left behind. It does not
        # contain the checkpoint's name, by which a requeued job would take it for one.
        with replacing(path, "checkpoint.partial") as partial:
            yield partial
    except (OSError, RuntimeError) as error:
        # A full disk leaves torch's file without an end, of which torch complains last.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"{path} cannot be written ({cause.strerror}): make room and resume from the "
            "previous checkpoint, which is complete."
        ) from error


def note_in_checkpoints(trainer: Trainer, record: dict[str, Any]) -> None:
    """Add entries to every checkpoint of a trainer, including later changes of the dictionary."""
    writer = trainer.strategy.checkpoint_io
    if isinstance(writer, CheckpointFile):
        writer.record = record


def plain_hyperparameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """The hyperparameters that are entirely plain; the others are rebuilt from the config."""
    if isinstance(values, DictConfig):
        values = cast(dict[str, Any], OmegaConf.to_container(values, resolve=False))
    plain = {}
    for name, value in values.items():
        left_out: list[str] = []
        plain_value = as_plain(value, name, left_out)
        if not left_out:
            plain[name] = plain_value
    return plain


def as_plain(value: Any, name: str, left_out: list[str]) -> Any:
    """A value made of tensors and plain values; other parts are left out.

    Args:
        value: any value.
        name: its name, for `left_out`.
        left_out: gets the names of the parts that are left out.

    Returns:
        The value, or `LEFT_OUT`.
    """
    if _is_plain(value):
        return value
    if isinstance(value, Container):
        # Some references cannot be resolved outside the run's config.
        value = OmegaConf.to_container(value, resolve=False)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, dict):
        return _plain_dict(value, name, left_out)
    if type(value) in (list, tuple, set, torch.Size):
        parts = [as_plain(part, f"{name}[{i}]", left_out) for i, part in enumerate(value)]
        # An incomplete sequence would have another meaning.
        is_whole = all(part is not LEFT_OUT for part in parts)
        return type(value)(parts) if is_whole else LEFT_OUT
    if type(value) in PLAIN_TYPES:
        return value
    left_out.append(f"{name} ({type(value).__name__})")
    return LEFT_OUT


def _plain_dict(value: dict[Any, Any], name: str, left_out: list[str]) -> Any:
    items = {}
    for key, part in value.items():
        # Most are plain. To name them takes longer than all else.
        plain_key = key if _is_plain(key) else as_plain(key, f"a key of {name}", left_out)
        plain_part = part if _is_plain(part) else as_plain(part, f"{name}.{key}", left_out)
        if plain_key is not LEFT_OUT and plain_part is not LEFT_OUT:
            items[plain_key] = plain_part
    if isinstance(value, OrderedDict):
        ordered = OrderedDict(items)
        # Versions of the modules, which load_state_dict reads.
        if hasattr(value, "_metadata"):
            ordered._metadata = value._metadata  # type: ignore[attr-defined]
        return ordered
    return items


def _is_plain(value: Any) -> bool:
    """Whether a value is one of the plain ones, or a tensor that `weights_only=True` reads."""
    kind = type(value)  # not its subclasses, such as enums
    return kind in PLAIN_TYPES or (kind in TENSOR_TYPES and not value.is_nested)
