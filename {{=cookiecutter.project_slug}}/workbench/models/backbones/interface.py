"""What the modules of the libraries return, and what they share."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...errors import UserError
from ..pretrained import is_needed, read_weights

log = logging.getLogger(__name__)

PRETRAINED = "pretrained"
# Names in a message.
NAMES_SHOWN = 3


class NotDescribedError(UserError):
    """Nothing says which images a network was trained on."""


@dataclass(frozen=True)
class ImageInput:
    """The images that a network was trained on.

    Attributes:
        height: in pixels.
        width: in pixels.
        mean: that was subtracted from each channel, on the scale 0..1.
        std: by which the difference was divided.
    """

    height: int
    width: int
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Backbone:
    """A pretrained network with a new last layer.

    Attributes:
        net: maps images (B, 3, H, W) to (B, num_outputs).
        head: the modules of `net` that are new.
        architecture: plain values that describe the network, if its name alone does not.
    """

    net: nn.Module
    head: list[nn.Module]
    architecture: dict[str, Any] | None = None


def reads_library(weights: str | None) -> bool:
    """Whether to load the weights that a library publishes."""
    return weights == PRETRAINED and is_needed()


def load_file(net: nn.Module, head: Sequence[nn.Module], weights: str | None, name: str) -> None:
    """Load the weights of a file, if one is named, into everything but the head.

    Raises:
        UserError: the file cannot be read, or does not hold all weights of the backbone.
    """
    if weights in (None, PRETRAINED) or not is_needed():
        return
    assert weights is not None
    load_body(net, head, read_weights(weights), f"{name} from {weights}")


def load_body(
    net: nn.Module, head: Sequence[nn.Module], weights: Mapping[str, Tensor], what: str
) -> None:
    """Load weights into everything but the head.

    Args:
        net: the network.
        head: its modules that stay new.
        weights: by name.
        what: they are, for messages.

    Raises:
        UserError: one is missing or has another shape.
    """
    new = {id(value) for module in head for value in module.state_dict(keep_vars=True).values()}
    own = {n: v for n, v in net.state_dict(keep_vars=True).items() if id(v) not in new}
    wrong = [n for n, v in own.items() if n not in weights or weights[n].shape != v.shape]
    if wrong:
        more = f" and {len(wrong) - NAMES_SHOWN} more" if len(wrong) > NAMES_SHOWN else ""
        raise UserError(
            f"{what}: {', '.join(wrong[:NAMES_SHOWN])}{more} are missing or have another shape, so "
            "these are the weights of another network: choose the backbone that they belong to."
        )
    net.load_state_dict({n: weights[n] for n in own}, strict=False)
    log.info("%d weights of %s loaded, the head is new", len(own), what)


def renew(head: Sequence[nn.Module]) -> None:
    """Initialize the head, which a library may have filled with its own."""
    for module in (each for part in head for each in part.modules()):
        if callable(reset := getattr(module, "reset_parameters", None)):
            reset()
