"""Optimizers by name, from `torch.optim`."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ..errors import UserError, cannot_build, nearest


def build_optimizer(
    spec: dict[str, Any], parameters: Iterable[nn.Parameter] | list[dict[str, Any]]
) -> torch.optim.Optimizer:
    """Build the optimizer that `spec` names.

    Args:
        spec: `name`, any optimizer class of `torch.optim`, and its arguments.
        parameters: what it optimizes: parameters, or groups of them with options of their own.

    Raises:
        UserError: no such optimizer, or an argument it refuses.
    """
    options = dict(spec)
    name = str(options.pop("name", None))
    names = [n for n, c in vars(torch.optim).items() if _is_optimizer(c)]
    if name not in names:
        raise UserError(f"torch.optim has no optimizer {name!r}; {nearest(name, names)}")
    try:
        optimizer: torch.optim.Optimizer = getattr(torch.optim, name)(parameters, **options)
    except (TypeError, ValueError) as error:
        raise cannot_build("optimizer", name, options, error) from error
    return optimizer


def _is_optimizer(value: Any) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, torch.optim.Optimizer)
        and value is not torch.optim.Optimizer
    )
