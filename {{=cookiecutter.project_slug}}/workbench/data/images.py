"""Images as model inputs: read from a file, normalised, augmented.

An image of more than 8 bits per channel rarely fills the range of its type: a 12-bit camera writes
16-bit files with values up to 4095, a scanner floats from 0 to 1. Black and white are therefore the
lowest and highest value of the training images, which a checkpoint stores as `value_range`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from ..errors import UserError


class ImageError(UserError):
    """An image that cannot be read."""

    def __init__(self, message: str) -> None:
        # A loader's worker process sends an error as a whole traceback, which ends in our words.
        super().__init__(message.rpartition("ImageError: ")[2].strip())


class Normalise:
    """Pixels 0..255 of shape (B, C, H, W) to float32 with mean 0 and standard deviation 1.

    Args:
        preprocessing: the values made by `image_preprocessing`.
    """

    def __init__(self, preprocessing: dict[str, Any]) -> None:
        self.mean = 255 * torch.tensor(preprocessing["mean"]).view(-1, 1, 1)
        self.std = 255 * torch.tensor(preprocessing["std"]).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        """The normalised batch; floats are clipped to 0..255 first."""
        if pixels.is_floating_point():
            pixels = pixels.clamp(0, 255)
        return (pixels.float() - self.mean) / self.std


def image_preprocessing(
    height: int, width: int, statistics: Tensor, value_range: list[float] | None = None
) -> dict[str, Any]:
    """Plain values that turn an image into an input; a checkpoint stores them.

    Args:
        height: of the input, in pixels.
        width: of the input, in pixels.
        statistics: of the training split, from `pixel_statistics`. Mean and standard deviation
            follow from them exactly, and they are small whatever the number of images.
        value_range: lowest and highest value of the training images; None for 8-bit images.

    Raises:
        UserError: every pixel has the same value.
    """
    mean, std = _of_histogram(statistics) if value_range is None else _of_moments(statistics)
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
    """The arguments of `read_image` after the path."""
    channels, height, width = (preprocessing[name] for name in ("channels", "height", "width"))
    return channels, height, width, preprocessing["value_range"]


def pixel_statistics(pixels: Tensor) -> Tensor:
    """Statistics of images (N, C, H, W) that can be summed over batches.

    Returns:
        For bytes, the histogram (C, 256) of the values. For floats, which are clipped to 0..255 and
        divided by 255: their number, sum and sum of squares (C, 3).
    """
    channels = pixels.transpose(0, 1).flatten(start_dim=1)
    if not pixels.is_floating_point():
        return torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    # With NumPy: the order in which torch adds depends on the number of threads.
    values = channels.double().clamp(0, 255).numpy() / 255
    count = np.full(len(values), values.shape[1], dtype=np.float64)
    moments = [count, values.sum(axis=1), (values**2).sum(axis=1)]
    return torch.from_numpy(np.stack(moments, axis=1))


def _of_histogram(histogram: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) on the scale 0..1, from a histogram (C, 256)."""
    if (histogram > 0).sum(dim=1).max() == 1:
        raise UserError(
            "All pixels of the training images have the same value, so there is nothing to learn: "
            "check how the files were written."
        )
    values = torch.arange(256, dtype=torch.float64) / 255
    frequencies = histogram.double() / histogram.sum(dim=1, keepdim=True)
    mean = frequencies @ values
    variance = frequencies @ values**2 - mean**2
    # A constant channel must not divide by zero; one grey level is the smallest change.
    return mean, variance.clamp(min=0).sqrt().clamp(min=1 / 255)


def _of_moments(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (C,) on the scale 0..1, from number, sum, sum of squares."""
    count, total, squares = moments.T
    mean = total / count
    variance = squares / count - mean**2
    # Far below that of an image with few bright pixels, and above rounding errors.
    return mean, variance.clamp(min=0).sqrt().clamp(min=1e-6)


def read_image(
    path: Path | BinaryIO,
    channels: int,
    height: int,
    width: int,
    value_range: list[float] | None = None,
) -> Tensor:
    """The image as uint8 (channels, height, width), or as float32 with a `value_range`.

    It is rotated as its EXIF entry says, blended onto white where it is transparent, converted to
    grey (1 channel) or RGB (3), and resized without cropping.

    Args:
        path: the file.
        channels: 1 or 3.
        height: in pixels.
        width: in pixels.
        value_range: the values that become 0 and 255 in images of more than 8 bits; values outside
            become negative or exceed 255. Without it, such an image is taken to fill its 16 bits.

    Raises:
        ImageError: the file is missing, truncated or not an image, or has more bits than the
            training images had.
    """
    try:
        with Image.open(path) as image:
            # A JPEG can be decoded at a half, quarter or eighth of its size, in a fraction of the
            # time. Twice the requested size leaves the resizing something to average.
            image.draft(None, (2 * max(height, width),) * 2)
            upright = ImageOps.exif_transpose(image)
            plain = _scaled(upright, value_range) if is_wide(upright) else _opaque(upright)
            if plain.mode != "F":
                plain = plain.convert("L" if channels == 1 else "RGB")
            small = plain.resize((width, height), Image.Resampling.BILINEAR)
    # Pillow raises some ten kinds of errors on broken files.
    except Exception as error:
        name = path if isinstance(path, Path) else "of the request"
        raise ImageError(f"The image {name} cannot be read ({_reason(error, path)}).") from error
    array = np.array(small).reshape(height, width, -1)
    pixels = torch.from_numpy(array).permute(2, 0, 1).expand(channels, -1, -1).contiguous()
    return pixels if value_range is None else pixels.float()


def is_wide(image: Image.Image) -> bool:
    """Whether the image is grey with 16 or 32 bits, or holds floats."""
    return image.mode == "F" or image.mode.startswith("I")


def wide_values(image: Image.Image) -> NDArray[np.float64]:
    """The values (H, W) of a wide image as they are in the file.

    Raises:
        ValueError: a value is infinite or NaN.
    """
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("some of its values are infinite or NaN")
    return values


def _scaled(image: Image.Image, value_range: list[float] | None) -> Image.Image:
    """A wide image as grey: floats with a range, otherwise bytes."""
    values = wide_values(image)
    if value_range is not None:
        low, high = value_range
        return Image.fromarray((255 * (values - low) / (high - low)).astype(np.float32))
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise ValueError(
            "it holds floats or 32-bit integers, and the training images had 8 bits: save it with "
            "8 bits per channel"
        )
    return Image.fromarray((values / 257).astype(np.uint8))


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _reason(error: Exception, path: Path | BinaryIO) -> str:
    """Why a file cannot be read, without its path."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image file of a known format"
    if isinstance(error, Image.DecompressionBombError):
        return f"it has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    name = path.name if isinstance(path, Path) else ""
    return " ".join(str(error).split()).replace(str(path), name)


def to_images(x: Tensor, preprocessing: Mapping[str, Any]) -> Tensor:
    """Model inputs (N, C, H, W) as images in 0..1: (N, H, W, 3), or (N, H, W) in grey."""
    mean, std = (torch.tensor(preprocessing[name]).view(-1, 1, 1) for name in ("mean", "std"))
    images = (x * std + mean).clamp(0, 1)
    return images.permute(0, 2, 3, 1) if x.shape[1] == 3 else images.mean(dim=1)


class Augment:
    """Random shifts and horizontal flips of training images, all images of a batch at once.

    They run on the training device and use torch's random numbers.

    Args:
        preprocessing: the values made by `image_preprocessing`. A shift brings in black pixels.
        shift: largest shift in pixels, in every direction; 0 for none.
        flip: whether to flip half of the images.
    """

    def __init__(self, preprocessing: dict[str, Any], shift: int, flip: bool) -> None:
        self.shift, self.flip = shift, flip
        self.black = -torch.tensor(preprocessing["mean"]) / torch.tensor(preprocessing["std"])

    def __call__(self, x: Tensor) -> Tensor:
        """An augmented copy of the normalised images (B, C, H, W)."""
        if self.shift:
            if self.black.device != x.device:
                # Once, because a copy to a device waits for everything it has to do.
                self.black = self.black.to(x.device)
            x = random_shift(x, self.shift, self.black.to(x.dtype))
        return random_flip(x) if self.flip else x


def random_shift(x: Tensor, pixels: int, fill: Tensor) -> Tensor:
    """Each image of x (B, C, H, W) shifted by up to `pixels` along both axes.

    The images are padded with `fill` (C,) and cropped at a random position, as in He et al. 2015,
    https://arxiv.org/abs/1512.03385, section 4.2.
    """
    batch, channels, height, width = x.shape
    size = (batch, channels, height + 2 * pixels, width + 2 * pixels)
    padded = fill.view(1, channels, 1, 1).expand(size).clone()
    padded[:, :, pixels:-pixels, pixels:-pixels] = x
    top, left = torch.randint(0, 2 * pixels + 1, (2, batch, 1), device=x.device)
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    images = torch.arange(batch, device=x.device)
    crop = padded.permute(0, 2, 3, 1)[images[:, None, None], rows[:, :, None], columns[:, None, :]]
    return crop.permute(0, 3, 1, 2).contiguous()


def random_flip(x: Tensor) -> Tensor:
    """Images x (B, C, H, W), each mirrored left to right with a probability of one half."""
    flipped = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(flipped, x.flip(-1), x)
