"""Checks of the arguments that the datamodules share."""

import re
import shlex
from collections.abc import Iterable
from typing import Any

from ..errors import UserError


def check_whole(name: str, value: Any, smallest: int, largest: int | None = None) -> None:
    """Raise a UserError unless `data.<name>` is a whole number in the range, ends included."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < smallest or (largest is not None and value > largest):
        bounds = f"of at least {smallest}" if largest is None else f"from {smallest} to {largest}"
        raise UserError(f"data.{name} must be a whole number {bounds}, not {value!r}.")


def check_fraction(name: str, value: Any) -> None:
    """Raise a UserError unless `data.<name>` lies between 0 and 1, both left out."""
    if not isinstance(value, float) or not 0 < value < 1:
        raise UserError(f"data.{name} must be a number between 0 and 1, not {value!r}.")


def list_option(key: str, names: Iterable[str]) -> str:
    """The option `data.<key>=[...]` as a shell takes it, with names that Hydra may not read."""
    simple = re.compile(r"\w[\w.-]*", re.ASCII)
    words = [name if simple.fullmatch(name) else f'"{name}"' for name in names]
    option = f"data.{key}=[{','.join(words)}]"
    return shlex.quote(option) if '"' in option else option
