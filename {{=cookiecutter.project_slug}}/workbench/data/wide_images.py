"""Images of more than 8 bits per channel, whose values rarely fill the range of their type.

A camera of 12 bits writes 16-bit files with values up to 4095, a scanner floats from 0 to 1. What
is black and what is white follows from the training images: their lowest and highest value.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from ..errors import UserError

log = logging.getLogger(__name__)

# Fewer than these of 256 levels are left of colours whose low byte is lost.
FEWEST_LEVELS = 64
# With these EXIF orientations, height and width change places.
TURNED = (5, 6, 7, 8)


@dataclass(frozen=True)
class PictureFacts:
    """What is known of an image before it is decided how to read it.

    Args:
        height: in pixels, upright.
        width: in pixels, upright.
        low: lowest value of an image of more than 8 bits.
        high: highest value of an image of more than 8 bits.
        brightest: highest value 0..255 of an image whose colours have 16 bits, of which Pillow
            reads the upper 8.
    """

    height: int
    width: int
    low: float | None = None
    high: float | None = None
    brightest: int | None = None


def is_wide(picture: Image.Image) -> bool:
    """Whether it is a grey image of 16 or 32 bits, or of floats."""
    return picture.mode == "F" or picture.mode.startswith("I")


def wide_values(picture: Image.Image) -> NDArray[np.float64]:
    """The values (H, W) of a wide image as they are in the file.

    Raises:
        ValueError: a value is infinite or NaN.
    """
    values = np.asarray(picture).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its values are infinite or NaN")
    return values


def measure(path: Path) -> PictureFacts:
    """The facts about an image file; only those of more than 8 bits are decoded for it."""
    with Image.open(path) as picture:
        width, height = picture.size
        # Of a PNG file, its own `getexif` would decode all pixels.
        if Image.Image.getexif(picture).get(ExifTags.Base.Orientation) in TURNED:
            width, height = height, width
        if is_wide(picture):
            values = wide_values(picture)
            return PictureFacts(height, width, float(values.min()), float(values.max()))
        if any(";16" in str(tile[-1]) for tile in getattr(picture, "tile", ())):
            brightest = int(np.asarray(picture.convert("RGB")).max())
            return PictureFacts(height, width, brightest=brightest)
        return PictureFacts(height, width)


def find_value_range(pictures: Sequence[PictureFacts]) -> list[float] | None:
    """The lowest and the highest value of the training images; None if all have 8 bits.

    Raises:
        UserError: every pixel has the same value, or colours of 16 bits would lose what they show.
    """
    brightest = [facts.brightest for facts in pictures if facts.brightest is not None]
    if brightest and max(brightest) < FEWEST_LEVELS:
        raise UserError(
            "Of 16-bit colours only the upper 8 bits are read, and the training images have at "
            f"most {max(brightest)} of 255 there: scale them to 8 bits per channel, or save them "
            "as grey images."
        )
    lows = [facts.low for facts in pictures if facts.low is not None]
    highs = [facts.high for facts in pictures if facts.high is not None]
    if not lows:
        return None
    low, high = min(lows), max(highs)
    if low == high:
        raise UserError(
            f"Every pixel of the training images of more than 8 bits is {low:g}, so there is "
            "nothing to learn: check how the files were written."
        )
    log.info("training images have values from %g to %g", low, high)
    if narrow := len(pictures) - len(lows):
        log.warning(
            "%d of %d training images have 8 bits: their values 0 to 255 are read like %g to %g "
            "of the others",
            narrow,
            len(pictures),
            low,
            high,
        )
    return [low, high]
