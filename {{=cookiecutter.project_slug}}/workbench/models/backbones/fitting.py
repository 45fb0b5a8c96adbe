"""Whether images or texts suit a backbone."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ...errors import UserError, first_line
from ..pretrained import is_needed
from .interface import NotDescribedError
from .lookup import image_input

log = logging.getLogger(__name__)


def check_input(
    net: nn.Module,
    backbone: str,
    input_shape: Sequence[int],
    preprocessing: dict[str, Any] | None,
) -> None:
    """Reject images that a network cannot process, and warn of another normalisation.

    Args:
        net: the network.
        backbone: its name.
        input_shape: shape of one sample.
        preprocessing: how an image becomes an input, with `mean` and `std`; None if unknown.

    Raises:
        UserError: the data are not images of three channels, or of a size that the network rejects;
            or they are not texts in its own codes, or too long.
    """
    if preprocessing is not None and preprocessing.get("kind") == "text":
        check_texts(net, backbone, input_shape, preprocessing)
        return
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise UserError(
            f"model.backbone={backbone} needs colour images of shape (3, height, width), and the "
            f"data are {tuple(input_shape)}: set data.channels=3 if the datamodule has this "
            "option, or choose another model."
        )
    # A checkpoint has passed before, and what describes its backbone may be out of reach.
    if not is_needed():
        return
    try:
        expected = image_input(backbone)
    except NotDescribedError:
        _try(net, backbone, input_shape, "choose another data.height and data.width")
        return
    if tuple(input_shape[1:]) != (expected.height, expected.width):
        size = f"{expected.height} x {expected.width}"
        _try(net, backbone, input_shape, f"leave data.height and data.width at auto, for {size}")
    given = {name: (preprocessing or {}).get(name) for name in ("mean", "std")}
    if None not in given.values() and given != {"mean": expected.mean, "std": expected.std}:
        log.warning(
            "%s was trained on images with mean %s and standard deviation %s, and these data are "
            "normalised with others: set data.backbone=%s if the datamodule has this option",
            backbone,
            expected.mean,
            expected.std,
            backbone,
        )


def check_texts(
    net: Any, backbone: str, input_shape: Sequence[int], preprocessing: dict[str, Any]
) -> None:
    """Reject texts whose codes are not those of the network.

    Raises:
        UserError: they are bytes, or too many codes exist or are in a text.
    """
    config, (length, codes) = net.config, input_shape
    if preprocessing["encoder"]["content"] is None:
        raise UserError(
            f"model.backbone={backbone} reads tokens: set data.tokenizer to the folder of its "
            "tokenizer, where `save_pretrained` has written tokenizer.json."
        )
    if codes > config.vocab_size:
        raise UserError(
            f"model.backbone={backbone} knows {config.vocab_size} tokens and data.tokenizer has "
            f"{codes}: set data.tokenizer to the folder of its own tokenizer."
        )
    longest = getattr(config, "max_position_embeddings", None)
    # RoBERTa counts positions from the code of padding on.
    if longest is not None and "roberta" in config.model_type:
        longest -= config.pad_token_id + 1
    if longest is not None and length > longest:
        raise UserError(
            f"model.backbone={backbone} reads at most {longest} tokens: set "
            f"data.max_length={longest} or less."
        )


def _try(net: nn.Module, backbone: str, shape: Sequence[int], remedy: str) -> None:
    net.eval()
    try:
        with torch.no_grad():
            net(torch.zeros(1, *shape))
    except Exception as error:
        raise UserError(
            f"{backbone} cannot process images of {shape[1]} x {shape[2]} pixels "
            f"({first_line(error)}): {remedy}."
        ) from error
    finally:
        net.train()
