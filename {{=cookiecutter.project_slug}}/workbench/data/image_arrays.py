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
from .splits import Samples


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
        parts = {
            part: torch.from_numpy(chosen)
            for part, chosen in self.split(samples_of(arrays)).items()
        }
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


def samples_of(arrays: ImageArrays) -> Samples:
    """What the split of images depends on."""
    labels = arrays.labels.numpy()
    count = len(labels)
    given = {"test": np.arange(count - arrays.test_count, count)} if arrays.test_count else {}
    return Samples(count, labels, arrays.class_names, given=given)
