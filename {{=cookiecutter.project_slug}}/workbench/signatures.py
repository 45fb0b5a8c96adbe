"""The arguments of classes and functions as JSON schemas."""

import inspect
import re
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .building import named_parameters
from .models.base import BaseModule

Schema = dict[str, Any]

TYPES = {bool: "boolean", int: "integer", float: "number"}
# A reference to another value, or a value that the command must give.
REFERENCE: Schema = {"type": "string", "pattern": r"\$\{|^\?\?\?$"}
# What the schemas of arguments refer to.
DEFINITIONS: dict[str, Schema] = {
    "_".join(names): {"anyOf": [{"type": [*names, "null"]}, REFERENCE]}
    for names in (
        ("boolean",),
        ("integer",),
        ("number",),
        ("boolean", "integer"),
        ("boolean", "number"),
    )
}
# The description of an argument in a docstring, with an optional type.
ARGUMENT = re.compile(r"^(\*{0,2}\w+)\s*(?:\([^)]*\))?:\s*(.*)$")
LONGEST = 160


def describe(called: Callable[..., Any], without: int = 0) -> Schema:
    """The schema of the arguments of a class or function.

    Args:
        called: the class or function.
        without: the number of first arguments that no config sets.
    """
    try:
        signature = inspect.signature(called)
        parameters = list(named_parameters(called).items())[without:]
    except (TypeError, ValueError):
        # Written in C: nothing is known about its arguments.
        return {"type": "object"}
    hints, texts = _hints(called), _descriptions(called)
    properties: dict[str, Schema] = {}
    for name, _ in parameters:
        schema = _type(hints.get(name))
        text = texts.get(name)
        properties[name] = ({"description": text} if text else {}) | schema
    takes_more = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    is_complete = inspect.isclass(called) and issubclass(called, BaseModule)
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {"^_": {}},
        "additionalProperties": takes_more and not is_complete,
    }


def _hints(called: Callable[..., Any]) -> Mapping[str, Any]:
    """The type hints of all arguments, including those of base classes."""
    owners = reversed(called.__mro__) if inspect.isclass(called) else [called]
    hints: dict[str, Any] = {}
    for owner in owners:
        function = vars(owner).get("__init__") if inspect.isclass(owner) else owner
        try:
            hints |= get_type_hints(function)
        except (AttributeError, NameError, TypeError):
            # A hint may name something that is only imported for type checkers.
            continue
    return hints


def _type(hint: Any) -> Schema:
    """The schema of numbers, switches and choices; other values are not restricted."""
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    kinds = [kind for kind in alternatives if kind is not NoneType]
    if kinds and all(get_origin(kind) is Literal for kind in kinds):
        choices = [choice for kind in kinds for choice in get_args(kind)]
        return {"anyOf": [{"enum": [*choices, None]}, REFERENCE]}
    if kinds and all(kind in TYPES for kind in kinds):
        # Integers are numbers.
        number = {"number"} if float in kinds else {TYPES[kind] for kind in kinds if kind is int}
        names = [*(["boolean"] if bool in kinds else []), *number]
        return {"allOf": [{"$ref": f"#/definitions/{'_'.join(names)}"}]}
    return {}


def _descriptions(called: Callable[..., Any]) -> dict[str, str]:
    """What docstrings in Google's style say about each argument."""
    owners = reversed(called.__mro__) if inspect.isclass(called) else [called]
    found: dict[str, str] = {}
    for owner in owners:
        for text in (owner.__doc__, getattr(vars(owner).get("__init__"), "__doc__", None)):
            found |= _arguments(inspect.cleandoc(text)) if text else {}
    return {name: _shorten(text) for name, text in found.items()}


def _arguments(text: str) -> dict[str, str]:
    """The section `Args:` of a docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE)
    if section is None:
        return {}
    lines = inspect.cleandoc("\n" + section[1]).splitlines()
    found: dict[str, str] = {}
    name = None
    for line in lines:
        begins = ARGUMENT.match(line)
        if begins:
            name = begins[1].lstrip("*")
            found[name] = begins[2]
        elif name is not None:
            found[name] += f" {line.strip()}"
    return found


def _shorten(text: str) -> str:
    """The first sentence of a description, in one line and without markup."""
    plain = re.sub(r":\w+:`~?\.?([^`]*)`", r"`\1`", " ".join(text.split())).replace("``", "`")
    plain = re.split(r"(?<=\w\w[.:;]) ", plain)[0].rstrip(":;")
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 4].rsplit(" ", 1)[0] + " ..."
