"""What a sample of the images tells before training: size, statistics, broken files."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..machine import usable_cores
from .images import PictureError, pixel_statistics, read_picture
from .wide_images import PictureFacts, measure

log = logging.getLogger(__name__)

T = TypeVar("T")

# The bounds of a size that is found out. Smaller than 16 pixels, little is left after the four
# halvings of `experiment=image_folder`; larger than 64, an epoch takes minutes on a laptop.
SMALLEST, LARGEST = 16, 64


def measure_pictures(paths: Sequence[Path]) -> list[PictureFacts]:
    """The facts about those images that can be read; the others are named by `read_statistics`."""

    def measure_or_skip(path: Path) -> PictureFacts | None:
        try:
            return measure(path)
        # Pillow's readers raise some ten kinds of errors on files that are broken.
        except Exception:
            return None

    return [facts for facts in _in_threads(measure_or_skip, paths) if facts is not None]


def choose_side(name: str, option: int | str, sides: Sequence[int]) -> int:
    """The height or width of the model's input: the option itself, or the median of the images."""
    if isinstance(option, int):
        return option
    median = int(np.median(sides)) if sides else LARGEST
    side = min(max(median, SMALLEST), LARGEST)
    log.info("data.%s=auto: %d (the training images have a median of %d)", name, side, median)
    return side


def read_statistics(
    paths: Sequence[Path], options: tuple[int, int, int, list[float] | None]
) -> tuple[Tensor, dict[Path, PictureError]]:
    """The statistics of these images in all, and why some cannot be read.

    Args:
        paths: the files.
        options: the arguments of `read_picture` after the path.
    """

    def count(path: Path) -> Tensor | PictureError:
        try:
            return pixel_statistics(read_picture(path, *options).unsqueeze(0))
        except PictureError as error:
            return error

    statistics = torch.zeros(())
    broken: dict[Path, PictureError] = {}
    for path, result in zip(paths, _in_threads(count, paths), strict=True):
        if isinstance(result, Tensor):
            statistics = statistics + result
        else:
            broken[path] = result
    return statistics, broken


def check_readable(broken: dict[Path, PictureError]) -> None:
    """Raise a UserError if there are broken images."""
    if len(broken) == 1:
        raise next(iter(broken.values()))
    if broken:
        raise UserError(
            f"{len(broken)} pictures cannot be read, mend or remove them: "
            f"{', '.join(str(path) for path in list(broken)[:5])}"
            f"{' and more' if len(broken) > 5 else ''}."
        )


def _in_threads(function: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    """The results in the order of the paths; Pillow decodes without holding the interpreter."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(function, paths))
