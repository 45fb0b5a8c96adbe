"""The one exception that means: the user can mend this."""

import difflib
from collections.abc import Iterable, Mapping


class UserError(Exception):
    """A mistake in a command, a config or the data, told in one sentence without a traceback."""


class NotFiniteError(UserError):
    """A loss that is NaN or infinite ended the training."""


def first_line(error: BaseException) -> str:
    """What an error says, without its full stop, for a sentence of ours; else what it is."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".!")


def named(options: Mapping[str, object]) -> str:
    """Options as they are given, for a sentence: lr=0.1, betas=0.9."""
    return ", ".join(f"{key}={value}" for key, value in options.items()) or "no options"


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, or all of them."""
    names = sorted(set(known))
    close = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(names)}."
