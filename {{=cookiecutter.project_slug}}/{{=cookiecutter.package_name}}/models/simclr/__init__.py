"""Self-supervised learning on images: Chen et al. 2020, https://arxiv.org/abs/2002.05709."""

from .simclr import SimCLR

__all__ = ["SimCLR"]
