"""Configurations to try first: from the command, a table, or an earlier sweep."""

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

# The best of an earlier sweep; all of them would repeat that sweep.
FROM_LEADERBOARD = 10
TOO_MANY_POINTS = (
    "%d configurations of hydra.sweeper.enqueue are not tried: hydra.sweeper.n_trials is %d"
)


def read_points(source: Any, space: Space) -> list[dict[str, Value]]:
    """Read the configurations of `hydra.sweeper.enqueue`.

    Args:
        source: a list of configurations, the path of a CSV file with a column per parameter, the
            folder of an earlier sweep, whose best trials are used, or None.
        space: the space that contains them.

    Raises:
        UserError: a missing file, an unknown column, or a value that is invalid or out of range.
    """
    if source is None:
        return []
    if isinstance(source, str):
        points = [
            _from_texts(row, space, where) for where, row in _rows(Path(source).expanduser(), space)
        ]
        # An empty row is not a configuration.
        return [point for point in points if point]
    if isinstance(source, list) and all(isinstance(row, Mapping) for row in source):
        return [_from_values(row, space) for row in source]
    raise UserError(
        "hydra.sweeper.enqueue must be a list of configurations, the path of a CSV file or the "
        f"folder of an earlier sweep, not {source!r}."
    )


def put_first(
    points: Sequence[dict[str, Value]], first: Sequence[Mapping[str, Value]]
) -> list[dict[str, Value]]:
    """The configurations of a grid, those that match one of `first` before the others."""
    wanted = [{key: text(value) for key, value in row.items()}.items() for row in first]

    def place(point: Mapping[str, Value]) -> int:
        found = {key: text(value) for key, value in point.items()}.items()
        return next((index for index, row in enumerate(wanted) if row <= found), len(wanted))

    return sorted(points, key=place)


def _from_values(row: Mapping[Any, Any], space: Space) -> dict[str, Value]:
    """A configuration of a list, whose values have types."""
    where = "hydra.sweeper.enqueue"
    known = [parameter.key for parameter in space.parameters]
    for key in map(str, row):
        if key not in known:
            raise UserError(f"{where}: {key} does not vary; {nearest(key, known)}")
    choosing = {parameter.key: parameter.by_text for parameter in space.parameters}
    # The sampler chooses where a value is null, unless null is one of the choices.
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
    """A configuration of a table, whose cells are texts as on the command line."""
    point: dict[str, Value] = {}
    for parameter in space.parameters:
        # The sampler chooses where a cell is empty.
        word = (row.get(parameter.key) or "").strip()
        if word and parameter.choices is not None:
            point[parameter.key] = _choice(_read(word), word, parameter, where)
        elif word:
            point[parameter.key] = _number(word, parameter, where)
    return _checked(point, space, where)


def _rows(path: Path, space: Space) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table as texts, each with its file and line for messages."""
    is_sweep = path.is_dir()
    table = path / "leaderboard.csv" if is_sweep else path
    names, rows = _read_table(table)
    keys = [parameter.key for parameter in space.parameters]
    if names and not set(keys) & set(names):
        found, wanted = ", ".join(names), ", ".join(keys)
        raise UserError(
            f"hydra.sweeper.enqueue: {table} has no column of a parameter: its columns are "
            f"{found}, and the parameters are {wanted}."
        )
    _check_columns(names, keys, table)
    if is_sweep:
        # Others without a rank did not finish or exceed a limit. Paused ones follow in their order.
        good = (pair for pair in rows if pair[1].get("rank") or pair[1].get("state") == "paused")
        rows = list(good)[:FROM_LEADERBOARD]
    if not rows:
        raise UserError(
            f"hydra.sweeper.enqueue: {table} has no {'finished trial' if is_sweep else 'rows'}."
        )
    for line, row in rows:
        yield f"{table}, line {line}", row


def _read_table(table: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The column names, and the rows with their line numbers."""
    where = f"hydra.sweeper.enqueue: {table}"
    try:
        # Excel writes a byte-order mark.
        with table.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            names = [name.strip() for name in next(lines, [])]
            rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except FileNotFoundError as error:
        raise UserError(f"hydra.sweeper.enqueue: there is no {table}.") from error
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(f"{where} cannot be read as a table: save it as CSV in UTF-8.") from error
    for name in names:
        if names.count(name) > 1 and name:
            raise UserError(f"{where} has two columns {name!r}: remove one.")
    for line, row in rows:
        if any(cell.strip() for cell in row[len(names) :]):
            raise UserError(f"{where}, line {line} has more cells than columns.")
    return names, [(line, dict(zip(names, row, strict=False))) for line, row in rows]


def _check_columns(names: Sequence[str], keys: Sequence[str], table: Path) -> None:
    """Reject a column that looks like a misspelt parameter; log columns that are ignored."""
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
        log.info("%s: ignored because they do not vary: %s", table, ", ".join(options))


def _checked(point: dict[str, Value], space: Space, where: str) -> dict[str, Value]:
    """The configuration, if the conditions of all its values hold."""
    for parameter in space.parameters:
        for key, values in parameter.when if parameter.key in point else ():
            if key in point and text(point[key]) not in values:
                raise UserError(
                    f"{where}: {parameter.key} exists only with {key}={' or '.join(values)}, not "
                    f"with {key}={text(point[key])}."
                )
    return point


def _choice(meaning: str, given: Any, parameter: Parameter, where: str) -> Value:
    """The choice that Hydra reads as the same value; 1, 1.0, true and '1' differ."""
    known = {identity(word): choice for word, choice in parameter.by_text.items()}
    if meaning not in known:
        word = str(given).lower() if isinstance(given, bool) else str(given)
        hint = nearest(word, parameter.by_text)
        raise UserError(f"{where}: {parameter.key}={word} is not a choice; {hint}")
    return known[meaning]


def _read(word: str) -> str:
    """The value that Hydra reads from a word, or else the word itself."""
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
        raise UserError(f"{where}: {key} must be a number, not {given!r}.")
    if not low <= number <= high:
        raise UserError(f"{where}: {key}={number:g} is outside {low:g} to {high:g}.")
    if parameter.is_integer and not number.is_integer():
        raise UserError(f"{where}: {key} must be an integer, not {number:g}.")
    if parameter.step is not None:
        # 0.1 + 2 * 0.1 is not exactly 0.3.
        point = round(low + parameter.step * round((number - low) / parameter.step), 12)
        if not math.isclose(number, point, rel_tol=1e-9, abs_tol=1e-12):
            raise UserError(
                f"{where}: {key}={number:g} is not a step of {parameter.typed}; the nearest is "
                f"{point:g}."
            )
        number = point
    return round(number) if parameter.is_integer else number
