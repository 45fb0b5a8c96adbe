"""New images or table rows for a trained model; whatever cannot be read is reported."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .cells import Equality, Reading
from .columns import MISSING, find_distinct, missing_markers, read_numbers
from .csv_texts import join_texts
from .image_files import visible_files
from .images import ImageError, Normalise, read_image, reading_options
from .sequences import Sequences
from .table_file import TableFile, check_columns, read_table_file
from .tables import Column, Numbers, Words, encode_table, find_levels, out_of_range
from .text_codes import TextEncoder

if TYPE_CHECKING:
    import polars as pl

log = logging.getLogger(__name__)

# More names than this make a line of the log unreadable.
NAMES_SHOWN = 5


@dataclass
class Inputs:
    """The content of a folder, an image or a CSV file.

    Args:
        names: of every image ("cat/1.jpg") or row ("line 7").
        x: model inputs of those that can be read, float32 (len(good), *input_shape), or texts.
        good: their positions in `names`, in the order of `x`.
        errors: position -> what is wrong, for all others.
        unknown: position -> values that are not in the training data, such as "colour='purple'".
    """

    names: list[str]
    x: Tensor | Sequences
    good: list[int]
    errors: dict[int, str]
    unknown: dict[int, str] = field(default_factory=dict)


def read_inputs(preprocessing: dict[str, Any], path: Path) -> Inputs:
    """Read inputs for predictions.

    Args:
        preprocessing: of the datamodule that the model was trained with; a checkpoint stores it.
        path: a folder of images (including subfolders) or a single image; a CSV file for a model of
            tables or labelled texts. Columns that the model does not know are ignored.

    Raises:
        UserError: there is nothing to read, or a column is missing.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise UserError(f"There is nothing at {path} to predict on.")
    if preprocessing["kind"] == "image":
        return _read_images(preprocessing, path)
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, but the model was trained on a table: give a CSV file."
        )
    return read_rows(preprocessing, read_table_file(path, preprocessing.get("delimiter")))


def _read_images(preprocessing: dict[str, Any], path: Path) -> Inputs:
    if path.suffix.lower() == ".csv":
        raise UserError(f"{path} is a table, but the model was trained on images: give a folder.")
    folder, files = (path, list(visible_files(path))) if path.is_dir() else (path.parent, [path])
    if not files:
        raise UserError(f"The folder {path} holds no image to predict on.")
    options = reading_options(preprocessing)
    images, good, errors = [], [], {}
    for position, file in enumerate(files):
        try:
            images.append(read_image(file, *options))
            good.append(position)
        except ImageError as error:
            errors[position] = str(error)
    pixels = torch.stack(images) if images else torch.empty((0, *options[:3]))
    names = [file.relative_to(folder).as_posix() for file in files]
    warn_of_clipped(preprocessing, [names[position] for position in good], pixels)
    return Inputs(names, Normalise(preprocessing)(pixels), good, errors)


def warn_of_clipped(preprocessing: dict[str, Any], names: Sequence[str], pixels: Tensor) -> None:
    """Log which images (N, C, H, W) have values outside the range of the training images."""
    if preprocessing["value_range"] is None:
        return
    # Half a grey level of tolerance for rounding.
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
    names = [column["name"] for column in preprocessing["columns"]]
    check_columns(names, table.header, table.path)
    if preprocessing["kind"] == "text":
        return _read_texts(preprocessing, table, names)
    markers = missing_markers(preprocessing.get("missing", MISSING))
    errors = _short_rows(table)
    unknown: dict[int, list[str]] = {}
    columns: dict[str, Column] = {}
    for fitted in preprocessing["columns"]:
        name = fitted["name"]
        cells = table.column(name)
        if fitted["type"] == "numeric":
            columns[name], wrong = _read_numbers(fitted, cells, markers)
            for row, reason in wrong.items():
                errors.setdefault(row, reason)
        else:
            columns[name], unseen = _read_labels(fitted, cells, markers)
            for row, reason in unseen.items():
                unknown.setdefault(row, []).append(reason)
    good = [row for row in range(len(table.lines)) if row not in errors]
    x = encode_table(
        preprocessing,
        {name: values[np.array(good, dtype=np.int64)] for name, values in columns.items()},
    )
    return Inputs(
        names=_row_names(table),
        x=x,
        good=good,
        errors=errors,
        unknown={row: ", ".join(reasons) for row, reasons in unknown.items() if row not in errors},
    )


def _row_names(table: TableFile) -> list[str]:
    return [f"line {line}" for line in table.lines]


def _short_rows(table: TableFile) -> dict[int, str]:
    """Row -> what is wrong with the number of its cells."""
    width = len(table.header)
    return {row: f"{n} cells, but the header has {width}" for row, n in table.faulty.items()}


def _read_texts(preprocessing: dict[str, Any], table: TableFile, columns: list[str]) -> Inputs:
    """The texts of a table; one that is empty is new to a model that was trained on none."""
    texts, errors = join_texts(table, columns), _short_rows(table)
    good = [row for row in range(len(texts)) if row not in errors]
    encoder = TextEncoder.load(preprocessing["encoder"])
    x = encoder.encode([texts[row] for row in good], preprocessing["max_length"])
    is_new = not preprocessing["columns"][0]["missing"]
    empty = [row for row in good if is_new and not texts[row]]
    unknown = dict.fromkeys(empty, f"{' and '.join(columns)} empty")
    return Inputs(_row_names(table), x, good, errors, unknown)


def _read_numbers(
    fitted: dict[str, Any], cells: "pl.Series", markers: frozenset[str]
) -> tuple[Numbers, dict[int, str]]:
    """The values of a column, and row -> what is wrong."""
    reading = Reading.load(fitted["reading"]) if "reading" in fitted else Reading()
    numbers = read_numbers(cells, markers, reading)
    errors = dict.fromkeys(numbers.wrong.tolist(), f"not {reading.expects()}")
    distant = np.flatnonzero(out_of_range(fitted, numbers.values)).tolist()
    errors |= dict.fromkeys(distant, "too far from its values in training")
    return numbers.values, {
        row: f"column '{fitted['name']}' holds '{(cells[row] or '').strip()}', {reason}"
        for row, reason in errors.items()
    }


def _read_labels(
    fitted: dict[str, Any], cells: "pl.Series", markers: frozenset[str]
) -> tuple[Words, dict[int, str]]:
    """The texts of a column, and row -> those that are not in the training data."""
    words = find_distinct(cells, markers).words(Equality(fitted["equality"]))
    new = find_levels(fitted, words) < 0
    if fitted["missing"]:
        new &= np.array(words.texts) != ""
    reasons = [
        f"{fitted['name']}={text!r}" if text else f"{fitted['name']} is missing"
        for text in words.texts
    ]
    return words, {int(row): reasons[words.codes[row]] for row in np.flatnonzero(new[words.codes])}
