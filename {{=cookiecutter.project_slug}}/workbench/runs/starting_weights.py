"""A new training that starts from the weights of a checkpoint."""

import logging
from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule
from torch import Tensor

from ..errors import UserError
from .checkpoints import read_checkpoint
from .rebuilding import rename_compiled

log = logging.getLogger(__name__)


def tensors_of(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights without what modules save beside tensors."""
    return {name: value for name, value in weights.items() if isinstance(value, Tensor)}


def start_from(path: str, model: LightningModule) -> dict[str, list[str]]:
    """Load the weights of a checkpoint that fit, and log those that do not.

    The checkpoint may be of another model class: what counts are names and shapes. So a network
    with a new head keeps its features, for example.

    Returns:
        The names of the weights: `loaded`, `other_shape`, `missing` in the checkpoint, and
        `unexpected`, which this model does not have.

    Raises:
        UserError: not a checkpoint of this project, or not one of its weights fits.
    """
    weights = rename_compiled(read_checkpoint(path)["state_dict"], model)
    saved, own = tensors_of(weights), tensors_of(model.state_dict())
    shared = [name for name in own if name in saved]
    names = {
        "loaded": [name for name in shared if saved[name].shape == own[name].shape],
        "other_shape": [name for name in shared if saved[name].shape != own[name].shape],
        "missing": [name for name in own if name not in saved],
        "unexpected": [name for name in saved if name not in own],
    }
    shapes = ", ".join(
        f"{name} ({tuple(saved[name].shape)} in the checkpoint, {tuple(own[name].shape)} here)"
        for name in names["other_shape"]
    )
    if not names["loaded"]:
        reason = shapes or f"it has {', '.join(names['unexpected'])}"
        raise UserError(f"None of the weights of weights_from={path} fits this model: {reason}.")
    model.load_state_dict({name: saved[name] for name in names["loaded"]}, strict=False)
    log.info("weights_from: %d of %d weights loaded from %s", len(names["loaded"]), len(own), path)
    if shapes:
        log.warning("weights_from: not loaded because of their shape: %s", shapes)
    if names["missing"]:
        log.warning("weights_from: missing in the checkpoint: %s", ", ".join(names["missing"]))
    if names["unexpected"]:
        log.warning("weights_from: not part of this model: %s", ", ".join(names["unexpected"]))
    return names
