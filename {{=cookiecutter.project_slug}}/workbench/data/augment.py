"""Random changes to a batch of images, all images at once.

They run on the training device, with torch's random numbers.
"""

import torch
from torch import Tensor


class Augment:
    """Shift and mirror training images at random.

    Args:
        shift: largest shift in pixels, up and down, left and right; 0 for none.
        flip: mirror every other image left to right.
        fill: (C,) value of the pixels that a shift brings in.
    """

    def __init__(self, shift: int, flip: bool, fill: Tensor) -> None:
        self.shift, self.flip, self.fill = shift, flip, fill

    def __call__(self, x: Tensor) -> Tensor:
        """Changed copy of the images x (B, C, H, W)."""
        if self.shift:
            x = random_shift(x, self.shift, self.fill.to(x))
        return random_flip(x) if self.flip else x


def random_shift(x: Tensor, pixels: int, fill: Tensor) -> Tensor:
    """Each image of x (B, C, H, W) moved by up to `pixels` along both axes.

    The images are padded by `fill` (C,) and cut out again at a random place, as in He et al. 2015,
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
    cut = padded.permute(0, 2, 3, 1)[images[:, None, None], rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2).contiguous()


def random_flip(x: Tensor) -> Tensor:
    """About half of the images x (B, C, H, W) mirrored left to right."""
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(-1), x)
