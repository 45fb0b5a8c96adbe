"""Handwritten digits, 8 x 8 pixels, included in scikit-learn."""

from typing import Any

import torch
from sklearn.datasets import load_digits

from workbench.data.image_arrays import ImageArrayDataModule, ImageArrays


class DigitsDataModule(ImageArrayDataModule):
    """1,797 digits by 43 people, images (1, 8, 8), classes "0" to "9".

    https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits

    The arguments are those of `BaseDataModule` and `ImageArrayDataModule`.
    """

    def __init__(
        self,
        batch_size: int = 64,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        split_seed: int = 42,
        folds: int | None = None,
        fold: int | None = None,
        shift: int = 0,
        flip: bool = False,
        augmentation: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def read(self) -> ImageArrays:
        """All images; their 17 grey levels 0..16 are scaled to 0..255, as in an image file."""
        digits = load_digits()
        pixels = (torch.from_numpy(digits.images) * 255 / 16).round().to(torch.uint8)
        names = [str(name) for name in digits.target_names]
        return ImageArrays(pixels.unsqueeze(1), torch.from_numpy(digits.target).long(), names)
