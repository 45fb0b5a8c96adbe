"""Inputs in the body of an HTTP request; what cannot be read is told as in a file."""

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

from ..errors import UserError
from .images import Normalise, PictureError, read_picture, reading_options
from .inputs import Inputs, read_rows, warn_of_clipped
from .table_file import TableFile


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
        pixels = read_picture(BytesIO(body), *reading_options(preprocessing))
    except PictureError as error:
        sentence = str(error).rstrip(".")
        raise UserError(f"{sentence}: send the bytes of a PNG or JPEG file.") from error
    warn_of_clipped(preprocessing, ["the request"], pixels.unsqueeze(0))
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
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    numbers = list(range(1, len(rows) + 1))
    table = TableFile(Path("The request"), list(map(_cell, names)), cells, numbers)
    inputs = read_rows(preprocessing, table)
    return replace(inputs, names=[f"row {number}" for number in numbers])


def _cell(value: Any) -> str:
    """The text of a cell as a CSV file would hold it: half a character cannot be sent back."""
    text = "" if value is None else str(value).strip()
    return text.encode("utf-8", "replace").decode()
