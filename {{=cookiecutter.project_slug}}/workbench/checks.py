"""Checks of option values, all of which raise the same kind of sentence.

For example: "data.batch_size must be an integer of at least 1, not 0."
"""

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from .errors import UserError


def require(is_valid: bool, name: str, expected: str, value: Any) -> None:
    """Raise a UserError that says what an option must be, unless its value is valid.

    Args:
        is_valid: whether `value` is.
        name: the option's full name.
        expected: ends "<name> must be", such as "a list of integers such as [0,1]".
        value: the option's value.
    """
    if not is_valid:
        raise UserError(f"{name} must be {expected}, not {value!r}.")


def is_integer(value: Any, least: int | None = None, most: int | None = None) -> bool:
    """Whether a value is an int within the bounds, which it may equal; a bool is none."""
    if type(value) is not int:
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def is_number(value: Any) -> bool:
    """Whether a value is a finite int or float; a bool is none."""
    return type(value) in (int, float) and math.isfinite(value)


def check_integer(
    name: str,
    value: Any,
    least: int | None = None,
    most: int | None = None,
    optional: bool = False,
) -> None:
    """Raise a UserError unless a value is an integer within the bounds.

    Args:
        name: the option's full name.
        value: the option's value.
        least: the smallest valid value.
        most: the largest valid value.
        optional: whether None is valid too.
    """
    bounds = ""
    if least is not None and most is not None:
        bounds = f" from {least} to {most}"
    elif least is not None:
        bounds = f" of at least {least}"
    elif most is not None:
        bounds = f" of at most {most}"
    is_valid = is_integer(value, least, most) or (optional and value is None)
    require(is_valid, name, f"an integer{bounds}{' or null' if optional else ''}", value)


def check_number(
    name: str,
    value: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    optional: bool = False,
) -> None:
    """Raise a UserError unless a value is a finite number within the bounds.

    Args:
        name: the option's full name.
        value: the option's value.
        least: the smallest valid value.
        above: a lower bound that is not valid itself.
        most: the largest valid value.
        below: an upper bound that is not valid itself.
        optional: whether None is valid too.
    """
    limits: list[tuple[str, Callable[[float, float], bool], float | None]] = [
        ("at least", operator.ge, least),
        ("above", operator.gt, above),
        ("at most", operator.le, most),
        ("below", operator.lt, below),
    ]
    given = [(text, holds, bound) for text, holds, bound in limits if bound is not None]
    is_valid = is_number(value) and all(holds(value, bound) for _, holds, bound in given)
    bounds = " and ".join(f"{text} {bound}" for text, _, bound in given)
    of = " of" if bounds.startswith("at") else ""
    expected = f"a number{of} {bounds}".rstrip() + (" or null" if optional else "")
    require(is_valid or (optional and value is None), name, expected, value)


def check_bool(name: str, value: Any) -> None:
    """Raise a UserError unless a value is true or false."""
    require(isinstance(value, bool), name, "true or false", value)


def check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise a UserError unless a value is one of the choices, of which there are at least two."""
    expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
    require(value in choices, name, expected, value)


# Arguments that datamodules share. The config is checked before torch is imported.
DATA_CHECKS: dict[str, Callable[[str, Any], None]] = {
    "data.batch_size": partial(check_integer, least=1),
    "data.split_seed": partial(check_integer, least=0),
    "data.test_fraction": partial(check_number, above=0, below=1),
    "data.val_fraction": partial(check_number, above=0, below=1),
}
