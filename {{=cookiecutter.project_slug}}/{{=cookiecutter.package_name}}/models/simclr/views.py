"""Random views of images, for models that learn what the views have in common."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class RandomView:
    """Rotates, zooms, shifts, changes the contrast and adds noise, differently for each image.

    Args:
        rotation: largest angle in degrees.
        zoom: largest change of the size, 0.2 for 80 to 120 %.
        shift: largest shift along each axis, as a fraction of half the image.
        contrast: largest change of the contrast, 0.4 for 60 to 140 %.
        noise: standard deviation of the noise, in standard deviations of the pixels.
    """

    def __init__(
        self, rotation: float, zoom: float, shift: float, contrast: float, noise: float
    ) -> None:
        self.rotation, self.zoom, self.shift = math.radians(rotation), zoom, shift
        self.contrast, self.noise = contrast, noise

    def __call__(self, x: Tensor, random: torch.Generator | None = None) -> Tensor:
        """One view of each normalised image in x (B, C, H, W)."""

        def uniform(largest: float) -> Tensor:
            return largest * (2 * torch.rand(len(x), generator=random, device=x.device) - 1)

        angle, size = uniform(self.rotation), 1 + uniform(self.zoom)
        cos, sin = size * angle.cos(), size * angle.sin()
        rows = [cos, -sin, uniform(self.shift), sin, cos, uniform(self.shift)]
        grid = F.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(x.shape), False)
        moved = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
        contrast = (1 + uniform(self.contrast)).view(-1, 1, 1, 1)
        noise = torch.randn(x.shape, generator=random, device=x.device)
        return contrast * moved + self.noise * noise
