"""Points to try first: from the command, a table, or an earlier sweep."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError, nearest
from .records import Value
from .space import Parameter, Space, text

# The best of an earlier sweep; all of them would be that sweep over again.
FROM_LEADERBOARD = 10


def read_points(source: Any, space: Space) -> list[dict[str, Value]]:
    """Read points of the space.

    Args:
        source: a list of points, the path of a CSV file with a column per parameter, or the folder
            of an earlier sweep, whose best trials are taken; None for nothing.
        space: the space they must lie in.

    Raises:
        UserError: no such file, or a value outside the space.
    """
    if source is None:
        return []
    if isinstance(source, str):
        return [_point(row, space, source) for row in _rows(Path(source), space)]
    if isinstance(source, list) and all(isinstance(row, Mapping) for row in source):
        known = [parameter.key for parameter in space.parameters]
        # A table may have other columns, a list is written for this sweep.
        for key in (str(key) for row in source for key in row):
            if key not in known:
                raise UserError(
                    f"hydra.sweeper.enqueue: {key} does not vary; {nearest(key, known)}"
                )
        return [_point(row, space, "hydra.sweeper.enqueue") for row in source]
    raise UserError(
        "hydra.sweeper.enqueue is a list of points, the path of a CSV file, or the folder of an "
        f"earlier sweep, not {source!r}."
    )


def _rows(path: Path, space: Space) -> list[dict[str, str]]:
    is_sweep = path.is_dir()
    table = path / "leaderboard.csv" if is_sweep else path
    if not table.is_file():
        raise UserError(f"hydra.sweeper.enqueue: there is no {table}.")
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise UserError(f"hydra.sweeper.enqueue: {table} is no text: save it in UTF-8.") from error
    keys = [parameter.key for parameter in space.parameters]
    if not rows and not is_sweep:
        raise UserError(f"hydra.sweeper.enqueue: {table} holds no points.")
    if rows and not set(keys) & set(rows[0]):
        raise UserError(f"{table} has no column of a parameter; there are: {', '.join(keys)}.")
    return rows[:FROM_LEADERBOARD] if is_sweep else rows


def _point(row: Mapping[Any, Any], space: Space, where: str) -> dict[str, Value]:
    point: dict[str, Value] = {}
    for parameter in space.parameters:
        # What a table leaves open, the sampler chooses.
        if row.get(parameter.key) not in (None, ""):
            point[parameter.key] = _value(row[parameter.key], parameter, where)
    return point


def _value(given: Any, parameter: Parameter, where: str) -> Value:
    if parameter.choices is not None:
        known = {text(choice): choice for choice in parameter.choices}
        word = str(given).lower() if isinstance(given, bool) else str(given)
        if word not in known:
            raise UserError(f"{where}: {parameter.key}={word} is no choice; {nearest(word, known)}")
        return known[word]
    try:
        number = float(given)
    except (TypeError, ValueError):
        raise UserError(f"{where}: {parameter.key} is a number, not {given!r}.") from None
    if not parameter.low <= number <= parameter.high:
        raise UserError(
            f"{where}: {parameter.key}={number:g} lies outside {parameter.low:g} to "
            f"{parameter.high:g}."
        )
    return round(number) if parameter.is_integer else number
