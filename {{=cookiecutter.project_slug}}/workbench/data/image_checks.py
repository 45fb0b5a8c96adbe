"""A sample of the images, read before training: size, value range, statistics, broken files."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image
from torch import Tensor

from ..errors import UserError
from ..machine import usable_cores
from ..models.backbones.interface import ImageInput
from .images import ImageError, is_wide, pixel_statistics, read_image, wide_values

log = logging.getLogger(__name__)

T = TypeVar("T")

# The bounds of an automatic size. Below 16 pixels, little is left after the four halvings of
# `experiment=image_folder`; above 64, an epoch takes minutes on a laptop.
SMALLEST, LARGEST = 16, 64
# With these EXIF orientations, height and width are swapped.
TURNED = (5, 6, 7, 8)
# Fewer of 256 levels than these are left of colours whose low byte is lost.
FEWEST_LEVELS = 64


@dataclass(frozen=True)
class ImageFacts:
    """What is known of an image before it is decided how to read it.

    Args:
        height: in pixels, upright.
        width: in pixels, upright.
        low: lowest value of an image of more than 8 bits.
        high: highest value of an image of more than 8 bits.
        brightest: highest value 0..255 of an image with 16-bit colours, of which Pillow reads the
            upper 8 bits.
    """

    height: int
    width: int
    low: float | None = None
    high: float | None = None
    brightest: int | None = None


def measure(path: Path) -> ImageFacts:
    """The facts about an image file; only those of more than 8 bits are decoded for it."""
    with Image.open(path) as image:
        width, height = image.size
        # The `getexif` of a PNG file would decode all pixels.
        if Image.Image.getexif(image).get(ExifTags.Base.Orientation) in TURNED:
            width, height = height, width
        if is_wide(image):
            values = wide_values(image)
            return ImageFacts(height, width, float(values.min()), float(values.max()))
        if any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ())):
            brightest = int(np.asarray(image.convert("RGB")).max())
            return ImageFacts(height, width, brightest=brightest)
        return ImageFacts(height, width)


def measure_images(paths: Sequence[Path]) -> list[ImageFacts]:
    """The facts about those images that can be read; `check_images` names the others."""

    def measure_or_skip(path: Path) -> ImageFacts | None:
        try:
            return measure(path)
        # Pillow raises some ten kinds of errors on broken files.
        except Exception:
            return None

    return [facts for facts in _in_threads(measure_or_skip, paths) if facts is not None]


def choose_size(
    height: int | str, width: int | str, images: Sequence[ImageFacts], wanted: ImageInput | None
) -> tuple[int, int]:
    """Height and width of the model's input.

    Args:
        height: an integer, or "auto".
        width: an integer, or "auto".
        images: some of the training images, whose median "auto" takes.
        wanted: what a backbone was trained on, which then takes precedence over the median.
    """
    if wanted is not None:
        sides = ((height, wanted.height), (width, wanted.width))
        chosen = [option if isinstance(option, int) else own for option, own in sides]
        return chosen[0], chosen[1]
    return (
        choose_side("height", height, [each.height for each in images]),
        choose_side("width", width, [each.width for each in images]),
    )


def choose_side(name: str, option: int | str, sides: Sequence[int]) -> int:
    """The height or width of the model's input: the option itself, or the median of the images."""
    if isinstance(option, int):
        return option
    median = int(np.median(sides)) if sides else LARGEST
    side = min(max(median, SMALLEST), LARGEST)
    log.info("data.%s=auto: %d (the median of the training images is %d)", name, side, median)
    return side


def find_value_range(images: Sequence[ImageFacts]) -> list[float] | None:
    """The lowest and the highest value of the training images; None if all have 8 bits.

    Raises:
        UserError: every pixel has the same value, or 16-bit colours would lose their content.
    """
    brightest = [facts.brightest for facts in images if facts.brightest is not None]
    if brightest and max(brightest) < FEWEST_LEVELS:
        raise UserError(
            "Only the upper 8 bits of 16-bit colours are read, and in the training images they are "
            f"at most {max(brightest)} of 255: scale the images to 8 bits per channel, or save "
            "them as grey images."
        )
    lows = [facts.low for facts in images if facts.low is not None]
    highs = [facts.high for facts in images if facts.high is not None]
    if not lows:
        return None
    low, high = min(lows), max(highs)
    if low == high:
        raise UserError(
            f"Every pixel of the training images of more than 8 bits is {low:g}, so there is "
            "nothing to learn: check how the files were written."
        )
    log.info("training images have values from %g to %g", low, high)
    if narrow := len(images) - len(lows):
        log.warning(
            "%d of %d training images have 8 bits: their values 0 to 255 are mapped to the range "
            "%g to %g of the others",
            narrow,
            len(images),
            low,
            high,
        )
    return [low, high]


def check_images(
    paths: Mapping[str, Sequence[Path]], options: tuple[int, int, int, list[float] | None]
) -> Tensor:
    """Read images of every split and return the statistics of the training images.

    Args:
        paths: the files by split.
        options: the arguments of `read_image` after the path.

    Raises:
        UserError: images cannot be read.
    """

    def count(path: Path) -> Tensor | ImageError:
        try:
            return pixel_statistics(read_image(path, *options).unsqueeze(0))
        except ImageError as error:
            return error

    statistics = torch.zeros(())
    broken: dict[Path, ImageError] = {}
    for split, files in paths.items():
        for path, result in zip(files, _in_threads(count, files), strict=True):
            if isinstance(result, ImageError):
                broken[path] = result
            elif split == "train":
                statistics = statistics + result
    if len(broken) == 1:
        raise next(iter(broken.values()))
    if broken:
        raise UserError(
            f"{len(broken)} images cannot be read; repair or remove them: "
            f"{', '.join(str(path) for path in list(broken)[:5])}"
            f"{' and more' if len(broken) > 5 else ''}."
        )
    return statistics


def _in_threads(function: Callable[[Path], T], paths: Sequence[Path]) -> list[T]:
    """The results in the order of the paths; Pillow decodes without holding the interpreter."""
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(function, paths))
