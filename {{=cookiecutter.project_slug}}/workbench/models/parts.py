"""A network in a few parts from its input to its output, such as those of a gradual unfreezing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

Named = tuple[str, nn.Module]


@dataclass(frozen=True)
class Part:
    """Some neighbouring layers.

    Attributes:
        names: of the modules.
        modules: with everything inside.
        parameters: those that can be trained; the first part also has those beside the modules,
            such as the class token of a transformer.
    """

    names: list[str]
    modules: list[nn.Module]
    parameters: list[nn.Parameter]

    def set_trained(self, is_trained: bool) -> None:
        """Train or freeze the part; a frozen one computes as it does in evaluation.

        So batch normalization keeps its statistics and dropout is off.
        """
        for module in self.modules:
            module.train(is_trained)
        for parameter in self.parameters:
            parameter.requires_grad_(is_trained)

    def __str__(self) -> str:
        return self.names[0] if len(self.names) == 1 else f"{self.names[0]} to {self.names[-1]}"


def rates_by_part(
    model: nn.Module, parts: Sequence[Part], rate: float, decay: float
) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer: the rest of the model, and the parts from the top down.

    Args:
        model: all of it; what is in no part is the head.
        parts: from the input to the output.
        rate: learning rate of the head.
        decay: learning rate of a part as a fraction of that of the part above it.
    """
    inside = {id(parameter) for part in parts for parameter in part.parameters}
    head = [parameter for parameter in model.parameters() if id(parameter) not in inside]
    groups = [{"params": head, "lr": rate}]
    for part in reversed(parts):
        rate *= decay
        groups.append({"params": part.parameters, "lr": rate})
    return groups


def divide(net: nn.Module, without: Iterable[nn.Module], count: int) -> list[Part]:
    """Divide a network into parts.

    Modules count in the order in which they were defined, which is that of the computation in all
    common networks. The largest ones are replaced by what they consist of until there are enough: a
    ResNet has its stages as parts, a transformer its blocks. A normalization belongs to the layer
    before it.

    Args:
        net: the network.
        without: modules of it that are in no part, such as a new head.
        count: number of parts; a network of fewer layers has fewer.
    """
    left_out = {id(module) for each in without for module in each.modules()}
    modules: list[Named] = [("", net)]
    loose: list[nn.Parameter] = []
    while (index := _next_to_open(modules, left_out, count)) is not None:
        name, opened = modules[index]
        loose += opened.parameters(recurse=False)
        modules[index : index + 1] = _children(name, opened, left_out)
    blocks: list[list[Named]] = []
    for name, module in modules:
        if blocks and _is_norm(module):
            blocks[-1].append((name, module))
        else:
            blocks.append([(name, module)])
    chunks = np.array_split(np.arange(len(blocks)), min(count, len(blocks)))
    parts = [_part([named for index in chunk for named in blocks[index]]) for chunk in chunks]
    # Tokens and positions enter with the input.
    parts[0].parameters.extend(parameter for parameter in loose if parameter.requires_grad)
    return parts


def _part(modules: list[Named]) -> Part:
    parameters = [p for _, module in modules for p in module.parameters() if p.requires_grad]
    return Part([name for name, _ in modules], [module for _, module in modules], parameters)


def _next_to_open(modules: list[Named], left_out: set[int], count: int) -> int | None:
    """The index of the module to replace by its children; None if there are enough."""
    for index, (_, module) in enumerate(modules):
        if any(id(inner) in left_out for inner in module.modules()):
            return index
    if sum(not _is_norm(module) for _, module in modules) >= count:
        return None
    sizes = [_size(module) if _children("", module, left_out) else 0 for _, module in modules]
    return int(np.argmax(sizes)) if any(sizes) else None


def _children(name: str, module: nn.Module, left_out: set[int]) -> list[Named]:
    """The modules directly inside another that have parameters."""
    return [
        (f"{name}.{own}".lstrip("."), child)
        for own, child in module.named_children()
        if id(child) not in left_out and _size(child)
    ]


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _is_norm(module: nn.Module) -> bool:
    """Whether all parameters are vectors, as in a normalization layer."""
    return all(parameter.ndim <= 1 for parameter in module.parameters())
