"""Errors that the user can fix, and the phrases that their messages are made of."""

import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """A mistake in a command, a config or the data, reported in one sentence without traceback."""


class NotFiniteError(UserError):
    """Training ended because the loss became NaN or infinite."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message without its full stop, or the error's class name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".!")


def cannot_build(
    kind: str, name: str, options: Mapping[str, object], error: BaseException
) -> UserError:
    """The error for a class that rejected its options.

    Args:
        kind: what the class is, such as "optimizer".
        name: the name by which it was chosen.
        options: its arguments, as they were given.
        error: what it raised.
    """
    given = ", ".join(f"{key}={value}" for key, value in options.items()) or "no options"
    return UserError(f"The {kind} {name!r} cannot be built from {given}: {first_line(error)}.")


def not_installed(what: str, package: str, extra: str) -> UserError:
    """The error for an optional package that is missing.

    Args:
        what: needs it.
        package: its name.
        extra: of the project, which contains it.
    """
    return UserError(
        f"{what} needs {package}: install it with `uv sync --extra {extra}` or "
        f"`pip install {package}`."
    )


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all known ones."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}."
