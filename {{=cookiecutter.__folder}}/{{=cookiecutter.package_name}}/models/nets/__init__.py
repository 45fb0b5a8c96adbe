"""Networks by name. To add your own: write it in this folder and give it a line in `NETS`."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from ...errors import UserError, first_line, named, nearest
from .cnn import CNN
from .mlp import MLP
from .resnet import resnet18

NETS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "resnet18": resnet18}


def build_net(spec: dict[str, Any], input_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """Build the network that `spec` names, fitted to the data.

    Networks go by name and not by import path, because a checkpoint holds the spec: a name can
    only reach the networks listed here, a path could make a downloaded checkpoint run any code.

    Args:
        spec: `name`, a key of `NETS`, and the options of that network.
        input_shape: shape of one sample, (C, H, W) or (num_features,).
        num_outputs: width of the last layer.

    Raises:
        UserError: no such network, or an option it does not have.
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name not in NETS:
        raise UserError(f"There is no net {name!r} for model.net.name; {nearest(str(name), NETS)}")
    for option, least in (("width", 1), ("depth", 0)):
        value = options.get(option, least)
        if not isinstance(value, int) or value < least:
            raise UserError(
                f"model.net.{option} is a whole number of at least {least}, not {value!r}."
            )
    try:
        return NETS[name](input_shape, num_outputs, **options)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"The net {name!r} cannot be built from {named(options)}: {first_line(error)}."
        ) from error


__all__ = ["CNN", "MLP", "NETS", "build_net", "resnet18"]
