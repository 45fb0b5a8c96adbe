"""RandAugment of a whole batch, with operations of its own for each image.

The class of torchvision applies the same operations to all images of a batch. Applied image by
image, it is slow, and on a GPU it waits for the device several times for each image. Here the
images that drew the same operation are processed together, each with its own direction.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# The number of the largest magnitude, as in torchvision.
LARGEST = 30
# The weights of red, green and blue in grey, as in torchvision.
GREY = (0.2989, 0.587, 0.114)
# At the largest magnitude: shear, change of a factor, rotation in degrees, and shift as a fraction.
SHEAR, FACTOR, ANGLE, SHIFT = 0.3, 0.9, 30.0, 150 / 331


class RandAugment:
    """Applies operations to each image, drawn from 14; https://arxiv.org/abs/1909.13719.

    Operations and magnitudes are those of torchvision. The random numbers are those of the CPU, so
    they are the same on every device.

    Args:
        num_ops: number of operations applied to an image.
        magnitude: their strength, from 0 to 30.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, num_ops: int = 2, magnitude: int = 9) -> None:
        if num_ops < 1 or not 0 <= magnitude <= LARGEST:
            raise ValueError(f"num_ops is at least 1, and magnitude is from 0 to {LARGEST}")
        self.num_ops, self.strength = num_ops, magnitude / LARGEST

    def __call__(self, x: Tensor) -> Tensor:
        """An augmented copy of images x (B, 1 or 3, H, W) with values from 0 to 1."""
        for _ in range(self.num_ops):
            drawn = torch.randint(len(OPERATIONS), (len(x),))
            signs = 1 - 2 * torch.randint(2, (len(x),))
            x = apply(x, drawn, self.strength * signs)
        return x


def apply(x: Tensor, drawn: Tensor, strengths: Tensor) -> Tensor:
    """Apply one operation to each image.

    Args:
        x: images (B, C, H, W) with values from 0 to 1.
        drawn: positions in `OPERATIONS` (B,), on the CPU.
        strengths: from -1 to 1 (B,), on the CPU. Operations without direction ignore the sign.
    """
    # Sorted by operation and back, so that nothing has to be read from the device.
    order = drawn.argsort()
    counts = drawn.bincount(minlength=len(OPERATIONS)).tolist()
    images = x.index_select(0, to_device_of(x, order)).split(counts)
    parts = zip(OPERATIONS.values(), images, strengths[order].split(counts), strict=True)
    changed = [operation(part, strength) for operation, part, strength in parts if len(part)]
    return torch.cat(changed).index_select(0, to_device_of(x, order.argsort()))


def to_device_of(x: Tensor, values: Tensor) -> Tensor:
    """Values of the CPU on the device of `x`, without waiting for what it has to do."""
    return values.to(x.device, non_blocking=True)


def _read_at(x: Tensor, xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor, *shifts: Tensor) -> Tensor:
    """Images with the pixel of x (B, C, H, W) at `xx * column + xy * row`, and so on; else black.

    Positions are in pixels from the centre of the image.
    """
    height, width = x.shape[2:]
    across, down = shifts or (torch.zeros(len(x)), torch.zeros(len(x)))
    # Both sides have the length 2.
    rows = [xx, xy * height / width, across * 2 / width, yx * width / height, yy, down * 2 / height]
    theta = to_device_of(x, torch.stack(rows, dim=1).view(-1, 2, 3).float())
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="nearest", align_corners=False)


def _shear_x(x: Tensor, strength: Tensor) -> Tensor:
    shear, one = SHEAR * strength, torch.ones(len(x))
    # About the upper edge.
    return _read_at(x, one, shear, 0 * one, one, shear * x.shape[2] / 2, 0 * one)


def _shear_y(x: Tensor, strength: Tensor) -> Tensor:
    shear, one = SHEAR * strength, torch.ones(len(x))
    return _read_at(x, one, 0 * one, shear, one, 0 * one, shear * x.shape[3] / 2)


def _translate_x(x: Tensor, strength: Tensor) -> Tensor:
    one, pixels = torch.ones(len(x)), (SHIFT * x.shape[3] * strength).trunc()
    return _read_at(x, one, 0 * one, 0 * one, one, -pixels, 0 * one)


def _translate_y(x: Tensor, strength: Tensor) -> Tensor:
    one, pixels = torch.ones(len(x)), (SHIFT * x.shape[2] * strength).trunc()
    return _read_at(x, one, 0 * one, 0 * one, one, 0 * one, -pixels)


def _rotate(x: Tensor, strength: Tensor) -> Tensor:
    angle = math.radians(ANGLE) * strength
    return _read_at(x, angle.cos(), -angle.sin(), angle.sin(), angle.cos())


def _blend(x: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    """From `other` over x to beyond x."""
    factor = to_device_of(x, 1 + FACTOR * strength).to(x.dtype).view(-1, 1, 1, 1)
    return (factor * x + (1 - factor) * other).clamp(0, 1)


def _grey(x: Tensor) -> Tensor:
    if x.shape[1] == 1:
        return x
    red, green, blue = x.split(1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def _brightness(x: Tensor, strength: Tensor) -> Tensor:
    return _blend(x, torch.zeros_like(x), strength)


def _color(x: Tensor, strength: Tensor) -> Tensor:
    return x if x.shape[1] == 1 else _blend(x, _grey(x), strength)


def _contrast(x: Tensor, strength: Tensor) -> Tensor:
    return _blend(x, _grey(x).mean(dim=(1, 2, 3), keepdim=True), strength)


def _sharpness(x: Tensor, strength: Tensor) -> Tensor:
    if min(x.shape[2:]) < 3:
        return x
    # A mean of 3 x 3 pixels in which the middle one counts five times. The edges stay as they are.
    blurred = x.clone()
    inner = x[:, :, 1:-1, 1:-1]
    blurred[:, :, 1:-1, 1:-1] = (9 * F.avg_pool2d(x, 3, stride=1) + 4 * inner) / 13
    return _blend(x, blurred, strength)


def _posterize(x: Tensor, strength: Tensor) -> Tensor:
    # The magnitude has no sign here, so it is the same for all images.
    levels = 2 ** round(8 - 4 * abs(float(strength[0])))
    return (x * levels).floor().clamp(max=levels - 1) / levels


def _solarize(x: Tensor, strength: Tensor) -> Tensor:
    return torch.where(x >= 1 - abs(float(strength[0])), 1 - x, x)


def _autocontrast(x: Tensor, strength: Tensor) -> Tensor:
    low, high = x.amin(dim=(2, 3), keepdim=True), x.amax(dim=(2, 3), keepdim=True)
    return torch.where(high > low, (x - low) / (high - low), x)


def _equalize(x: Tensor, strength: Tensor) -> Tensor:
    """Spread the values of each channel evenly, with integers as Pillow does."""
    values = (x * 255.999).long().flatten(2)
    counts = values.new_zeros((*values.shape[:2], 256))
    counts.scatter_add_(2, values, torch.ones_like(values))
    total = counts.cumsum(dim=2)
    last = counts.gather(2, values.amax(dim=2, keepdim=True))
    step = (total[..., -1:] - last) // 255
    table = (total - counts + step // 2) // step.clamp(min=1)
    spread = table.clamp(max=255).gather(2, values).view_as(x)
    return torch.where(step.unsqueeze(-1) > 0, spread.to(x.dtype) / 255, x)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Identity": lambda x, strength: x,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _brightness,
    "Color": _color,
    "Contrast": _contrast,
    "Sharpness": _sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
}
