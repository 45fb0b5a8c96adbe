"""Random views of pictures, for models that learn what stays the same."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class RandomView:
    """Turn, zoom, shift, brighten and blur with noise each picture of a batch in its own way.

    Args:
        rotation: largest angle in degrees.
        zoom: largest change of the size, 0.2 for 80 to 120 %.
        shift: largest shift along each axis, as a share of half the picture.
        contrast: largest change of the contrast, 0.4 for 60 to 140 %.
        noise: standard deviation of the noise, in standard deviations of the pixels.
    """

    def __init__(
        self, rotation: float, zoom: float, shift: float, contrast: float, noise: float
    ) -> None:
        self.rotation, self.zoom, self.shift = math.radians(rotation), zoom, shift
        self.contrast, self.noise = contrast, noise

    def __call__(self, x: Tensor, random: torch.Generator | None = None) -> Tensor:
        """A view of each picture of x (B, C, H, W).

        Args:
            x: normalised pictures.
            random: where the random numbers come from; None for torch's own.
        """

        def uniform(largest: float) -> Tensor:
            return largest * (2 * torch.rand(len(x), generator=random, device=x.device) - 1)

        angle, size = uniform(self.rotation), 1 + uniform(self.zoom)
        cos, sin = size * angle.cos(), size * angle.sin()
        rows = [cos, -sin, uniform(self.shift), sin, cos, uniform(self.shift)]
        grid = F.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(x.shape), False)
        moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        contrast = (1 + uniform(self.contrast)).view(-1, 1, 1, 1)
        return contrast * moved + self.noise * torch.randn(
            x.shape, generator=random, device=x.device
        )
