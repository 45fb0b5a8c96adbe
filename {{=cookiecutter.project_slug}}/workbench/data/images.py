"""From a picture file to the model's input, by plain values that a checkpoint can hold."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import UserError
from .wide_images import is_wide, wide_values

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
)


class PictureError(UserError):
    """A picture that cannot be read."""

    def __init__(self, message: str) -> None:
        # A loader's worker process sends an error as a whole traceback, which ends in our words.
        super().__init__(message.rpartition("PictureError: ")[2].strip())


class Normalise:
    """Pixels 0..255 of shape (B, C, H, W) to float32 with the mean 0 and the deviation 1.

    Args:
        preprocessing: the values made by `image_preprocessing`.
    """

    def __init__(self, preprocessing: dict[str, Any]) -> None:
        self.mean = 255 * torch.tensor(preprocessing["mean"]).view(-1, 1, 1)
        self.std = 255 * torch.tensor(preprocessing["std"]).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalised batch of the pixels (B, C, H, W); floats are clipped to 0..255."""
        if pixels.is_floating_point():
            pixels = pixels.clamp(0, 255)
        return (pixels.float() - self.mean) / self.std


def black(preprocessing: dict[str, Any]) -> Tensor:
    """What the pixel value 0 becomes in each channel (C,)."""
    return -torch.tensor(preprocessing["mean"]) / torch.tensor(preprocessing["std"])


def image_preprocessing(
    height: int, width: int, statistics: Tensor, value_range: list[float] | None = None
) -> dict[str, Any]:
    """Plain values that turn a picture into an input.

    Args:
        height: of the input, in pixels.
        width: of the input, in pixels.
        statistics: of the training part, as `pixel_statistics` gives them. Mean and deviation
            follow from them exactly, and they are small whatever the number of images.
        value_range: lowest and highest value of the training images; None for images of 8 bits.

    Raises:
        UserError: every pixel has the same value.
    """
    if value_range is None:
        mean, std = _of_histogram(statistics)
    else:
        mean, std = _of_moments(statistics)
    return {
        "kind": "image",
        "channels": len(statistics),
        "height": height,
        "width": width,
        "value_range": value_range,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def reading_options(preprocessing: dict[str, Any]) -> tuple[int, int, int, list[float] | None]:
    """The arguments of `read_picture` after the path."""
    channels, height, width = (preprocessing[name] for name in ("channels", "height", "width"))
    return channels, height, width, preprocessing["value_range"]


def pixel_statistics(pixels: Tensor) -> Tensor:
    """What gives mean and deviation of (N, C, H, W), and can be summed over batches.

    Returns:
        Of bytes, how often each value 0..255 occurs (C, 256); of floats, clipped to 0..255, their
        number, sum and sum of squares (C, 3), on the scale 0..1.
    """
    channels = pixels.transpose(0, 1).flatten(start_dim=1)
    if not pixels.is_floating_point():
        return torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    # By NumPy: torch adds in an order that depends on the number of threads.
    values = channels.double().clamp(0, 255).numpy() / 255
    count = np.full(len(values), values.shape[1], dtype=np.float64)
    moments = [count, values.sum(axis=1), (values**2).sum(axis=1)]
    return torch.from_numpy(np.stack(moments, axis=1))


def _of_histogram(histogram: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (C,) on the scale 0..1, of a histogram (C, 256)."""
    if (histogram > 0).sum(dim=1).max() == 1:
        raise UserError(
            "All pixels of the training images have the same value, so there is nothing to learn: "
            "check how the files were written."
        )
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = histogram.double() / histogram.sum(dim=1, keepdim=True)
    mean = shares @ values
    variance = shares @ values**2 - mean**2
    # A channel that never changes must not divide by zero; one grey level is the smallest change.
    return mean, variance.clamp(min=0).sqrt().clamp(min=1 / 255)


def _of_moments(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation (C,) on the scale 0..1, of number, sum and sum of squares (C, 3)."""
    count, total, squares = moments.T
    mean = total / count
    variance = squares / count - mean**2
    # Far below what an image of few bright pixels has, and above rounding.
    return mean, variance.clamp(min=0).sqrt().clamp(min=1e-6)


def read_picture(
    path: Path | BinaryIO,
    channels: int,
    height: int,
    width: int,
    value_range: list[float] | None = None,
) -> Tensor:
    """The picture of shape (channels, height, width), as uint8 or, with a range, as float32.

    It is turned upright by its EXIF entry, laid on white where it is transparent, made grey
    (channels=1) or RGB (3), and stretched to the size: nothing is cut off.

    Args:
        path: the file.
        channels: 1 or 3.
        height: in pixels.
        width: in pixels.
        value_range: the values that become 0 and 255 in images of more than 8 bits; those outside
            lie below 0 or above 255. Without it, such an image is taken to fill its 16 bits.

    Raises:
        PictureError: the file is missing, truncated or not a picture, or it has more bits than the
            model knows.
    """
    try:
        with Image.open(path) as picture:
            # A JPEG can be decoded at a half, quarter or eighth of its size, in a fraction of the
            # time. Twice the size asked for leaves the resizing something to average.
            picture.draft(None, (2 * max(height, width),) * 2)
            upright = ImageOps.exif_transpose(picture)
            plain = _scaled(upright, value_range) if is_wide(upright) else _opaque(upright)
            if plain.mode != "F":
                plain = plain.convert("L" if channels == 1 else "RGB")
            small = plain.resize((width, height), Image.Resampling.BILINEAR)
    # Pillow's readers raise some ten kinds of errors on files that are broken.
    except Exception as error:
        name = path if isinstance(path, Path) else "of the request"
        raise PictureError(
            f"The picture {name} cannot be read ({_reason(error, path)})."
        ) from error
    array = np.array(small).reshape(height, width, -1)
    pixels = torch.from_numpy(array).permute(2, 0, 1).expand(channels, -1, -1).contiguous()
    return pixels if value_range is None else pixels.float()


def _scaled(picture: Image.Image, value_range: list[float] | None) -> Image.Image:
    """An image of more than 8 bits as a grey one: of floats with a range, else of bytes."""
    values = wide_values(picture)
    if value_range is not None:
        low, high = value_range
        return Image.fromarray((255 * (values - low) / (high - low)).astype(np.float32))
    if picture.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            "it holds floats or 32-bit integers, and the training images had 8 bits: save it with "
            "8 bits per channel"
        )
    return Image.fromarray((values / 257).astype(np.uint8))


def _opaque(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


def _reason(error: Exception, path: Path | BinaryIO) -> str:
    """Why a file cannot be read, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image file of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    name = path.name if isinstance(path, Path) else ""
    return " ".join(str(error).split()).replace(str(path), name)


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file under a folder in sorted order, without the hidden ones.

    No folder is entered twice, and no link is followed to a folder that contains it.
    """
    above = (folder, *folder.absolute().parents)
    actual = Path(os.path.realpath(folder))
    return _walk(folder, {os.path.realpath(path) for path in (*above, *actual.parents)})


def _walk(folder: Path, entered: set[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        actual = os.path.realpath(path)
        if not path.is_dir():
            yield path
        elif actual not in entered:
            entered.add(actual)
            yield from _walk(path, entered)
