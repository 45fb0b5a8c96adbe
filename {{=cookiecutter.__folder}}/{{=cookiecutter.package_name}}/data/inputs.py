"""New pictures or table rows for a trained model; what cannot be read is told, never lost."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .images import Normalise, PictureError, read_picture, reading_options, visible_files
from .table_file import TableFile, check_columns, parse_number, read_table_file
from .tables import Column, encode_table

log = logging.getLogger(__name__)

# More names than this make a line of the log unreadable.
NAMES_SHOWN = 5


@dataclass
class Inputs:
    """What a folder, a picture or a CSV file holds.

    Args:
        names: of every picture ("cat/1.jpg") or row ("line 7").
        x: model inputs of the good ones, float32 (len(good), *input_shape).
        good: positions of the good ones in `names`, in the order of `x`.
        errors: position -> what is wrong, for all others.
        unknown: position -> categories of a good row that the training part did not hold, for
            example "colour='purple'".
    """

    names: list[str]
    x: Tensor
    good: list[int]
    errors: dict[int, str]
    unknown: dict[int, str] = field(default_factory=dict)


def read_inputs(preprocessing: dict[str, Any], path: Path) -> Inputs:
    """Read what a model is to predict on.

    Args:
        preprocessing: of the datamodule that the model was trained with; a checkpoint holds it.
        path: a folder of pictures (folders inside it are read too) or a single picture; a CSV file
            for a model of tables. Columns that the model does not know are ignored.

    Raises:
        UserError: there is nothing to read, or a column is missing.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"There is nothing at {path} to predict on.")
    if preprocessing["kind"] == "image":
        return _read_pictures(preprocessing, path)
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, but the model was trained on a table: give a CSV file."
        )
    return read_rows(preprocessing, read_table_file(path, preprocessing.get("delimiter")))


def _read_pictures(preprocessing: dict[str, Any], path: Path) -> Inputs:
    if path.suffix.lower() == ".csv":
        raise UserError(f"{path} is a table, but the model was trained on pictures: give a folder.")
    folder, files = (path, list(visible_files(path))) if path.is_dir() else (path.parent, [path])
    if not files:
        raise UserError(f"The folder {path} holds no picture to predict on.")
    options = reading_options(preprocessing)
    pictures, good, errors = [], [], {}
    for position, file in enumerate(files):
        try:
            pictures.append(read_picture(file, *options))
            good.append(position)
        except PictureError as error:
            errors[position] = str(error)
    pixels = torch.stack(pictures) if pictures else torch.empty((0, *options[:3]))
    names = [file.relative_to(folder).as_posix() for file in files]
    warn_of_clipped(preprocessing, [names[position] for position in good], pixels)
    return Inputs(names, Normalise(preprocessing)(pixels), good, errors)


def warn_of_clipped(preprocessing: dict[str, Any], names: Sequence[str], pixels: Tensor) -> None:
    """Log which images (N, C, H, W) have values outside the range of the training images."""
    if preprocessing["value_range"] is None:
        return
    # Half a grey level is left for rounding.
    outside = ((pixels < -0.5) | (pixels > 255.5)).flatten(1).any(dim=1).tolist()
    clipped = [name for name, is_outside in zip(names, outside, strict=True) if is_outside]
    if clipped:
        low, high = preprocessing["value_range"]
        log.warning(
            "%d of %d images have values outside the range of the training images, %g to %g, and "
            "were clipped to it: %s%s",
            len(clipped),
            len(names),
            low,
            high,
            ", ".join(clipped[:NAMES_SHOWN]),
            " and more" if len(clipped) > NAMES_SHOWN else "",
        )


def read_rows(preprocessing: dict[str, Any], table: TableFile) -> Inputs:
    """The rows of a table.

    Raises:
        UserError: a column that the model knows is missing.
    """
    wanted = {column["name"]: column["type"] for column in preprocessing["columns"]}
    check_columns(wanted, table.header, table.path)
    rows: list[dict[str, float | str]] = []
    good, errors = [], {}
    for position, cells in enumerate(table.rows):
        try:
            rows.append(_read_row(wanted, table.header, cells))
            good.append(position)
        except ValueError as error:
            errors[position] = str(error)
    columns: dict[str, Column] = {}
    for name, kind in wanted.items():
        values = [row[name] for row in rows]
        columns[name] = (
            np.array(values, dtype=np.float64) if kind == "numeric" else [str(v) for v in values]
        )
    names = [f"line {line}" for line in table.lines]
    return Inputs(names, encode_table(preprocessing, columns), good, errors)


def _read_row(
    wanted: dict[str, str], header: list[str], cells: list[str]
) -> dict[str, float | str]:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, but the header has {len(header)}")
    row = dict(zip(header, cells, strict=True))
    return {
        name: _number(name, row[name]) if kind == "numeric" else row[name]
        for name, kind in wanted.items()
    }


def _number(name: str, text: str) -> float:
    try:
        return parse_number(text)
    except ValueError:
        raise ValueError(f"column '{name}' holds '{text}', not a finite number") from None
