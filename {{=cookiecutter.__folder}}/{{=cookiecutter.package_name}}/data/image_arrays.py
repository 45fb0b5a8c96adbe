"""Images that fit in memory: digits, MNIST, CIFAR-10."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from .augment import Augment
from .base import BaseDataModule
from .batches import Batch, BatchDataset
from .checks import check_whole
from .images import Normalise, black, image_preprocessing, pixel_statistics
from .splits import Indices, split_in_three, split_off


@dataclass
class ImageArrays:
    """Images of all parts.

    Args:
        pixels: uint8 (N, C, H, W), 0..255.
        labels: int64 (N,).
        class_names: in the order of the labels.
        test_count: so many images at the end are the official test set; 0 if there is none.
    """

    pixels: Tensor
    labels: Tensor
    class_names: list[str]
    test_count: int = 0


class ImageArrayDataModule(BaseDataModule):
    """Images kept as bytes, a quarter of their size as floats, and normalised by the batch.

    A subclass offers `read` and has the arguments batch_size, val_fraction, split_seed, shift,
    flip and, if there is no official test set, test_fraction.
    """

    task = "classification"

    def read(self) -> ImageArrays:
        """All images, the official test set last."""
        raise NotImplementedError

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the images, take the statistics of the training part and normalise with them."""
        arrays = self.read()
        parts = self._split(arrays)
        _, channels, height, width = arrays.pixels.shape
        check_whole("shift", self.hparams["shift"], 0, min(height, width) - 1)
        statistics = pixel_statistics(arrays.pixels[parts["train"]])
        self.class_names = arrays.class_names
        self.input_shape = (channels, height, width)
        self.preprocessing = image_preprocessing(height, width, statistics)
        self.augment = Augment(
            self.hparams["shift"], self.hparams["flip"], black(self.preprocessing)
        )
        normalise = Normalise(self.preprocessing)
        return {
            part: BatchDataset(arrays.pixels[chosen], arrays.labels[chosen], normalise)
            for part, chosen in parts.items()
        }

    def _split(self, arrays: ImageArrays) -> dict[str, Tensor]:
        labels, names = arrays.labels.numpy(), arrays.class_names
        val_fraction, seed = self.hparams["val_fraction"], self.hparams["split_seed"]
        parts: dict[str, Indices]
        if arrays.test_count:
            known = len(labels) - arrays.test_count
            size = round(known * val_fraction)
            train, val = split_off("val", np.arange(known), size, seed, labels, names)
            parts = {"train": train, "val": val, "test": np.arange(known, len(labels))}
        else:
            test_fraction = self.hparams["test_fraction"]
            parts = split_in_three(len(labels), val_fraction, test_fraction, seed, labels, names)
        return {part: torch.from_numpy(chosen) for part, chosen in parts.items()}
