"""From a picture file to the model's input, by plain values that a checkpoint can hold."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UserError

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
        """Normalised batch of the pixels (B, C, H, W)."""
        return (pixels.float() - self.mean) / self.std


def black(preprocessing: dict[str, Any]) -> Tensor:
    """What the pixel value 0 becomes in each channel (C,)."""
    return -torch.tensor(preprocessing["mean"]) / torch.tensor(preprocessing["std"])


def image_preprocessing(height: int, width: int, histogram: Tensor) -> dict[str, Any]:
    """Plain values that turn a picture into an input.

    Args:
        height: of the input, in pixels.
        width: of the input, in pixels.
        histogram: (C, 256), how often each pixel value occurs in the training part. Mean and
            deviation follow from it exactly, and it is small whatever the number of images.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    shares = histogram.double() / histogram.sum(dim=1, keepdim=True)
    mean = shares @ values
    variance = shares @ values**2 - mean**2
    # A channel that never changes must not divide by zero; one grey level is the smallest change.
    std = variance.clamp(min=0).sqrt().clamp(min=1 / 255)
    return {
        "kind": "image",
        "channels": len(histogram),
        "height": height,
        "width": width,
        "mean": mean.tolist(),
        "std": std.tolist(),
    }


def pixel_histogram(pixels: Tensor) -> Tensor:
    """How often each value 0..255 occurs in each channel of (N, C, H, W), as (C, 256)."""
    channels = pixels.transpose(0, 1).flatten(start_dim=1)
    return torch.stack([torch.bincount(channel, minlength=256) for channel in channels])


def read_picture(path: Path | BinaryIO, channels: int, height: int, width: int) -> Tensor:
    """The picture as uint8 of shape (channels, height, width).

    It is turned upright by its EXIF entry, laid on white where it is transparent, made grey
    (channels=1) or RGB (3), and stretched to the size: nothing is cut off.

    Raises:
        PictureError: the file is missing, truncated or not a picture.
    """
    try:
        with Image.open(path) as picture:
            # A JPEG can be decoded at a half, quarter or eighth of its size, in a fraction of the
            # time. Twice the size asked for leaves the resizing something to average.
            picture.draft(None, (2 * max(height, width),) * 2)
            upright = _opaque(ImageOps.exif_transpose(picture))
            small = upright.convert("L" if channels == 1 else "RGB").resize(
                (width, height), Image.Resampling.BILINEAR
            )
    # Pillow's readers raise some ten kinds of errors on files that are broken.
    except Exception as error:
        name = path.name if isinstance(path, Path) else ""
        reason = " ".join(str(error).split()).replace(str(path), name)
        raise PictureError(f"The picture {path} cannot be read ({reason}).") from error
    array = np.array(small).reshape(height, width, channels)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def _opaque(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):
        # 16-bit grey; Pillow would cut everything above 255.
        return Image.fromarray((np.asarray(picture) / 257).clip(0, 255).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)


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
