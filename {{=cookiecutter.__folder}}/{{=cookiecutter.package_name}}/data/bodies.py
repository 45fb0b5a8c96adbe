"""Inputs in the body of an HTTP request; what cannot be read is told as in a file."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import UserError
from .images import Normalise, PictureError, read_picture
from .inputs import Inputs, read_rows
from .table_file import TableFile, json_cell


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
    size = [preprocessing[name] for name in ("channels", "height", "width")]
    try:
        pixels = read_picture(BytesIO(body), *size)
    except PictureError as error:
        raise UserError("The body is no picture: send the bytes of a PNG or JPEG file.") from error
    return Inputs(["picture"], Normalise(preprocessing)(pixels.unsqueeze(0)), [0], {})


def _read_rows(preprocessing: dict[str, Any], body: bytes) -> Inputs:
    """A JSON list of objects, one a row: `[{"age": 59, "bmi": null}]`."""
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError("The body is no JSON: send a list of objects, one a row.") from error
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise UserError("The body is no table: send a list of objects, one a row.")
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [[json_cell(row.get(name)) for name in names] for row in rows]
    numbers = list(range(1, len(rows) + 1))
    table = TableFile.from_rows(Path("The request"), list(map(json_cell, names)), cells, numbers)
    inputs = read_rows(preprocessing, table)
    return replace(inputs, names=[f"row {number}" for number in numbers])
