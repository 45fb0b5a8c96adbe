"""Which columns of a CSV file are used, and how its cells are read."""

import json
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

# Arguments of datamodules that name columns or texts, one column, or something on the disk.
LISTS = ("text", "target", "numeric", "categorical", "drop", "missing")
NAMES = ("group", "split_column")
PATHS = ("path", "tokenizer")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The arguments of `CSVDataModule` and `TextCSVDataModule` that choose and read columns."""

    target: Sequence[str] | None
    group: str | None
    split_column: str | None
    task: str
    delimiter: str | None
    missing: Sequence[str] | None
    formats: Mapping[str, Sequence[str]]
    text: Sequence[str] | None = None
    numeric: Sequence[str] | None = None
    categorical: Sequence[str] | None = None
    drop: Sequence[str] | None = None

    @classmethod
    def among(cls, options: Mapping[str, Any]) -> "Choices":
        """Those among the arguments of a datamodule, which `make_plain` has changed."""
        names = [each.name for each in fields(cls)]
        return cls(**{name: options[name] for name in names if name in options})

    def special(self) -> list[str]:
        """The columns that divide the rows, and which no model sees."""
        return [name for name in (self.group, self.split_column) if name is not None]


def make_plain(options: MutableMapping[str, Any]) -> None:
    """Replace Hydra's own lists, which a checkpoint cannot hold, and names that YAML changed.

    Args:
        options: the arguments of a datamodule, with `formats`.
    """
    for name in options.keys() & LISTS:
        options[name] = names_of(options[name])
    for names, kind in ((NAMES, name_of), (PATHS, str)):
        for name in options.keys() & names:
            options[name] = None if options[name] is None else kind(options[name])
    formats = options["formats"] or {}
    options["formats"] = {str(key): names_of(value) or [] for key, value in formats.items()}


def names_of(names: Any) -> list[str] | None:
    """A plain list of names; a single name may stand for itself."""
    if names is None:
        return None
    several = isinstance(names, Sequence) and not isinstance(names, str)
    return [name_of(name) for name in (names if several else [names])]


def name_of(value: Any) -> str:
    """The text that the user typed, where YAML made a number, a boolean or null of it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)
