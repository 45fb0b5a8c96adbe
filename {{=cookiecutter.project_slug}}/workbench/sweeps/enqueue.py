"""Points to try first: from the command, a table, or an earlier sweep."""

import csv
import difflib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from ..errors import UserError, nearest
from .space import Parameter, Space, identity, text
from .types import Value

log = logging.getLogger(__name__)

# The best of an earlier sweep; all of them would be that sweep over again.
FROM_LEADERBOARD = 10
TOO_MANY_POINTS = "%d points of hydra.sweeper.enqueue are not tried: hydra.sweeper.n_trials is %d"


def read_points(source: Any, space: Space) -> list[dict[str, Value]]:
    """Read points of the space.

    Args:
        source: a list of points, the path of a CSV file with a column per parameter, or the folder
            of an earlier sweep, whose best trials are taken; None for nothing.
        space: the space they must lie in.

    Raises:
        UserError: no such file, a column or a value that means nothing, or one outside the space.
    """
    if source is None:
        return []
    if isinstance(source, str):
        points = [
            _from_texts(row, space, where) for where, row in _rows(Path(source).expanduser(), space)
        ]
        # An empty row says nothing.
        return [point for point in points if point]
    if isinstance(source, list) and all(isinstance(row, Mapping) for row in source):
        return [_from_values(row, space) for row in source]
    raise UserError(
        "hydra.sweeper.enqueue is a list of points, the path of a CSV file, or the folder of an "
        f"earlier sweep, not {source!r}."
    )


def put_first(
    points: Sequence[dict[str, Value]], first: Sequence[Mapping[str, Value]]
) -> list[dict[str, Value]]:
    """All points of a grid, those that agree with a point to try first before the others."""
    wanted = [{key: text(value) for key, value in row.items()}.items() for row in first]

    def place(point: Mapping[str, Value]) -> int:
        found = {key: text(value) for key, value in point.items()}.items()
        return next((index for index, row in enumerate(wanted) if row <= found), len(wanted))

    return sorted(points, key=place)


def _from_values(row: Mapping[Any, Any], space: Space) -> dict[str, Value]:
    """A point of a list in the config, whose values have types."""
    where = "hydra.sweeper.enqueue"
    known = [parameter.key for parameter in space.parameters]
    for key in map(str, row):
        if key not in known:
            raise UserError(f"{where}: {key} does not vary; {nearest(key, known)}")
    choosing = {parameter.key: parameter.by_text for parameter in space.parameters}
    # null is left open, unless it is one of the choices.
    given = {str(k): v for k, v in row.items() if v is not None or "null" in choosing[str(k)]}
    point = {
        parameter.key: _choice(repr(given[parameter.key]), given[parameter.key], parameter, where)
        if parameter.choices is not None
        else _number(given[parameter.key], parameter, where)
        for parameter in space.parameters
        if parameter.key in given
    }
    return _checked(point, space, where)


def _from_texts(row: Mapping[str, str], space: Space, where: str) -> dict[str, Value]:
    """A point of a table, whose cells are texts as on a command line."""
    point: dict[str, Value] = {}
    for parameter in space.parameters:
        # What a table leaves open, the sampler chooses.
        word = (row.get(parameter.key) or "").strip()
        if word and parameter.choices is not None:
            point[parameter.key] = _choice(_read(word), word, parameter, where)
        elif word:
            point[parameter.key] = _number(word, parameter, where)
    return _checked(point, space, where)


def _rows(path: Path, space: Space) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table as texts, each with the words that name it."""
    is_sweep = path.is_dir()
    table = path / "leaderboard.csv" if is_sweep else path
    names, rows = _read_table(table)
    keys = [parameter.key for parameter in space.parameters]
    if names and not set(keys) & set(names):
        found, wanted = ", ".join(names), ", ".join(keys)
        raise UserError(
            f"hydra.sweeper.enqueue: {table} has no column of a parameter; it has {found}, and "
            f"the search space has {wanted}."
        )
    _check_columns(names, keys, table)
    if is_sweep:
        # Those without a rank did not finish, or exceeded a limit.
        rows = [(line, row) for line, row in rows if row.get("rank")][:FROM_LEADERBOARD]
    if not rows:
        raise UserError(
            f"hydra.sweeper.enqueue: {table} has no {'finished trial' if is_sweep else 'points'}."
        )
    for line, row in rows:
        yield f"{table}, line {line}", row


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The names of the columns, and the rows by their line numbers."""
    where = f"hydra.sweeper.enqueue: {table}"
    try:
        # Excel begins a file with a byte-order mark.
        with table.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            names = [name.strip() for name in next(lines, [])]
            rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except FileNotFoundError as error:
        raise UserError(f"hydra.sweeper.enqueue: there is no {table}.") from error
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{where} is not a table: save it as CSV in UTF-8.") from error
    for name in names:
        if names.count(name) > 1 and name:
            raise UserError(f"{where} has two columns {name!r}: remove one.")
    for line, row in rows:
        if any(cell.strip() for cell in row[len(names) :]):
            raise UserError(f"{where}, line {line} has more cells than there are columns.")
    return names, [(line, dict(zip(names, row, strict=False))) for line, row in rows]


def _check_columns(names: Sequence[str], keys: Sequence[str], table: Path) -> None:
    """Refuse a column that looks like a misspelt parameter, and name those that are not read."""
    missing = [key for key in keys if key not in names]
    words = {key.rpartition(".")[2].lower(): key for key in missing}
    spelt = {key.lstrip("+").lower(): key for key in missing}
    others = [name for name in names if name and name not in keys]
    for name in others:
        close = difflib.get_close_matches(name.lower(), spelt, n=1, cutoff=0.8)
        meant = words.get(name.lower()) or (spelt[close[0]] if close else None)
        if meant is not None:
            raise UserError(
                f"hydra.sweeper.enqueue: {table} has a column {name!r}, which does not vary; did "
                f"you mean {meant!r}?"
            )
    # The columns of a leaderboard are expected.
    options = [name for name in others if "." in name]
    if options:
        log.info("%s: not varied and so not read: %s", table, ", ".join(options))


def _checked(point: dict[str, Value], space: Space, where: str) -> dict[str, Value]:
    """The point, if every value has a meaning beside the others."""
    for parameter in space.parameters:
        for key, values in parameter.when if parameter.key in point else ():
            if key in point and text(point[key]) not in values:
                raise UserError(
                    f"{where}: {parameter.key} exists with {key}={' or '.join(values)} only, not "
                    f"with {key}={text(point[key])}."
                )
    return point


def _choice(meaning: str, given: Any, parameter: Parameter, where: str) -> Value:
    """The choice that means the same to Hydra; 1, 1.0, true and '1' are four of them."""
    known = {identity(word): choice for word, choice in parameter.by_text.items()}
    if meaning not in known:
        word = str(given).lower() if isinstance(given, bool) else str(given)
        hint = nearest(word, parameter.by_text)
        raise UserError(f"{where}: {parameter.key}={word} is not a choice; {hint}")
    return known[meaning]


def _read(word: str) -> str:
    """The value that Hydra reads from a word, or the word itself if Hydra reads none."""
    try:
        return identity(word)
    except HydraException:
        return repr(word)


def _number(given: Any, parameter: Parameter, where: str) -> Value:
    key, low, high = parameter.key, parameter.low, parameter.high
    try:
        number = math.nan if isinstance(given, bool) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        raise UserError(f"{where}: {key} is a number, not {given!r}.")
    if not low <= number <= high:
        raise UserError(f"{where}: {key}={number:g} is outside {low:g} to {high:g}.")
    if parameter.is_integer and not number.is_integer():
        raise UserError(f"{where}: {key} is an integer, not {number:g}.")
    if parameter.step is not None:
        # 0.1 + 2 * 0.1 is not quite 0.3.
        point = round(low + parameter.step * round((number - low) / parameter.step), 12)
        if not math.isclose(number, point, rel_tol=1e-9, abs_tol=1e-12):
            raise UserError(
                f"{where}: {key}={number:g} is not a step of {parameter.typed}; the nearest is "
                f"{point:g}."
            )
        number = point
    return round(number) if parameter.is_integer else number
