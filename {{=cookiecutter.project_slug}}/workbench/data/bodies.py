"""Inputs in the body of an HTTP request; what cannot be read is told as in a file."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError, nearest
from .images import ImageError, Normalise, read_image, reading_options
from .inputs import Inputs, read_rows, warn_of_clipped
from .table_file import TableFile, json_cell


class Pairs(list[tuple[str, Any]]):
    """Keys and values of a JSON object; a dictionary would keep the last of equal keys only."""


def read_body(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """Read what a model is to predict on: one picture, or a JSON list of rows.

    Args:
        preprocessing: of the datamodule that the model was trained with; a checkpoint holds it.
        body: of the request.

    Raises:
        UserError: it is no picture or no table, or a column is missing.
    """
    read = _read_picture if preprocessing["kind"] == "image" else _read_rows
    return read(preprocessing, body)


def _read_picture(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """One picture, as the bytes of its file."""
    try:
        pixels = read_image(BytesIO(body), *reading_options(preprocessing))
    except ImageError as error:
        sentence = str(error).rstrip(".")
        raise UserError(f"{sentence}: send the bytes of a PNG or JPEG file.") from error
    warn_of_clipped(preprocessing, ["the request"], pixels.unsqueeze(0))
    return Inputs(["picture"], Normalise(preprocessing)(pixels.unsqueeze(0)), [0], {})


def _read_rows(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """A JSON list of objects, one a row: `[{"age": 59, "bmi": null}]`.

    Each row is read without regard to the others. A row that cannot be used gets an error of its
    own; only a body that is not such a list is refused as a whole.
    """
    columns = [str(column["name"]) for column in preprocessing["columns"]]
    cells, good, errors = [], [], {}
    rows = _parse(body)
    for position, row in enumerate(rows):
        try:
            cells.append(_cells(row, columns))
            good.append(position)
        except ValueError as error:
            errors[position] = str(error)
    names = [f"row {number}" for number in range(1, len(rows) + 1)]
    if not good:
        return Inputs(names, torch.empty(0), [], errors)
    table = TableFile.from_rows(Path("The request"), columns, cells, list(range(1, len(cells) + 1)))
    read = read_rows(preprocessing, table)
    return Inputs(
        names,
        read.x,
        [good[place] for place in read.good],
        errors | {good[place]: error for place, error in read.errors.items()},
        {good[place]: text for place, text in read.unknown.items()},
    )


def _parse(body: bytes) -> list[Pairs]:
    """The objects of a JSON list, or a single object; each as pairs, in which a key may repeat.

    Raises:
        UserError: the body is something else.
    """
    try:
        rows = json.loads(body, object_pairs_hook=Pairs, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise UserError(
            "The body is not JSON: send a list of objects, one per row, with null for a missing "
            "value."
        ) from error
    rows = [rows] if isinstance(rows, Pairs) else rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, Pairs) for row in rows):
        raise UserError("The body is not a table: send a list of objects, one per row.")
    return rows


def _refuse_constant(word: str) -> None:
    """Refuse NaN and Infinity, which Python writes and reads but JSON does not know."""
    raise ValueError(word)


def _cells(row: Pairs, columns: list[str]) -> list[str]:
    """The cells of a row, in the order of the columns.

    Raises:
        ValueError: a column is missing or occurs twice, or a value is a list or an object.
    """
    values: dict[str, Any] = {}
    for key, value in row:
        name = json_cell(key)
        if name in values:
            raise ValueError(f"column '{name}' occurs twice")
        values[name] = value
    for column in columns:
        if column not in values:
            hint = nearest(column, values) if values else "the object is empty."
            raise ValueError(f"no column '{column}' (null means that a value is missing); {hint}")
        if isinstance(values[column], list):
            raise ValueError(f"column '{column}' holds a list or an object, not a single value")
    return [json_cell(values[column]) for column in columns]
