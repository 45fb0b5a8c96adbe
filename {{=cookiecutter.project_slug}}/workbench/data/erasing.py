"""Random erasing of a whole batch, with another rectangle in each image."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .randaugment import to_device_of

# As in torchvision: how often a rectangle is drawn until one is smaller than the image.
ATTEMPTS = 10


class RandomErasing:
    """Replaces a rectangle in some images; https://arxiv.org/abs/1708.04896.

    The arguments are those of torchvision, whose class erases the same rectangle in all images of a
    batch.

    Args:
        p: probability of changing an image.
        scale: smallest and largest area, as a fraction of the image.
        ratio: smallest and largest ratio of height to width.
        value: a number, or "random" for normally distributed noise. Images are normalised, so 0 is
            the mean of the training images.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | str = 0.0,
    ) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability, not {p}")
        if not 0 <= scale[0] <= scale[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
            raise ValueError("scale and ratio are a smallest and a largest positive number")
        if isinstance(value, str) and value != "random":
            raise ValueError(f"value is a number or random, not {value!r}")
        self.p, self.scale, self.ratio, self.value = p, scale, ratio, value

    def __call__(self, x: Tensor) -> Tensor:
        """A copy of images x (B, C, H, W) with erased rectangles."""
        top, left, height, width = to_device_of(x, self.draw(*x[:, 0].shape)).unsqueeze(-1)
        rows = torch.arange(x.shape[2], device=x.device)
        columns = torch.arange(x.shape[3], device=x.device)
        is_row = (rows >= top) & (rows < top + height)
        is_column = (columns >= left) & (columns < left + width)
        is_erased = (is_row[:, :, None] & is_column[:, None, :]).unsqueeze(1)
        if isinstance(self.value, str):
            return torch.where(is_erased, torch.randn_like(x), x)
        return x.masked_fill(is_erased, self.value)

    def draw(self, count: int, height: int, width: int) -> Tensor:
        """Upper edge, left edge, height and width of each rectangle (4, count), on the CPU.

        The height is 0 where nothing is erased.
        """
        area = height * width * torch.empty(ATTEMPTS, count).uniform_(*self.scale)
        ratio = torch.empty(ATTEMPTS, count).uniform_(*map(math.log, self.ratio)).exp()
        sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()]).round().long()
        fits = (sides[0] < height) & (sides[1] < width)
        # The first attempt that fits; argmax returns the first of equal values.
        chosen = sides.gather(1, fits.long().argmax(dim=0).expand(2, 1, count)).squeeze(1)
        room = torch.tensor([height, width]).view(2, 1) - chosen + 1
        edges = (torch.rand(2, count) * room).long()
        is_changed = fits.any(dim=0) & (torch.rand(count) < self.p)
        return torch.cat([edges, chosen * is_changed])
