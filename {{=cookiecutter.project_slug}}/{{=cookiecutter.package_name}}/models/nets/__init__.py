"""Networks by name. To add your own: write it in this folder and give it a line in `NETS`."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from workbench.errors import UserError, cannot_build, nearest

from .cnn import CNN
from .mlp import MLP
from .resnet import resnet18

NETS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "resnet18": resnet18}


# A name and options, a network, or a function of `input_shape` and `num_outputs` that makes one.
Net = Mapping[str, Any] | nn.Module | Callable[..., nn.Module]


def parts_of(**arguments: Any) -> list[str]:
    """The arguments that no checkpoint can hold: networks and losses that are not given by name."""
    return [name for name, value in arguments.items() if callable(value)]


def build_net(net: Net, input_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """Build the network that `net` names, fitted to the data.

    Names rather than import paths, because a checkpoint holds the name and options: a name can
    only reach the networks listed here, a path could make a downloaded checkpoint run any code.
    A config with `_target_` gives a network instead, or, if its class requires them, a function of
    `input_shape` and `num_outputs`; it is built again from the run's config.

    Args:
        net: `name`, a key of `NETS`, and the options of that network; or a network or function.
        input_shape: shape of one sample, (C, H, W) or (num_features,).
        num_outputs: width of the last layer.

    Raises:
        UserError: no such network, or an option it does not have.
    """
    if isinstance(net, nn.Module):
        return net
    if not isinstance(net, Mapping):
        shapes = {"input_shape": input_shape, "num_outputs": num_outputs}
        asked_for = inspect.signature(net).parameters
        return net(**{name: value for name, value in shapes.items() if name in asked_for})
    return build_by_name(net, input_shape, num_outputs)


def build_by_name(
    spec: Mapping[str, Any], input_shape: Sequence[int], num_outputs: int
) -> nn.Module:
    """Build a network of `NETS`; arguments and errors are those of `build_net`."""
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
        raise cannot_build("net", name, options, error) from error


__all__ = ["CNN", "MLP", "NETS", "Net", "build_net", "parts_of", "resnet18"]
