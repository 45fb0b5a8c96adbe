"""Images that fit in memory: digits, MNIST, CIFAR-10."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..checks import check_integer
from ..errors import UserError
from .augmentation import build_augmentation
from .base import BaseDataModule
from .batches import Batch, BatchDataset
from .images import Augment, Normalise, image_preprocessing, pixel_statistics
from .splits import Samples

# Without a limit, a network that drops packets stalls the download for many minutes.
SECONDS_WITHOUT_ANSWER = 20


@dataclass
class ImageArrays:
    """The images of all splits.

    Args:
        pixels: uint8 (N, C, H, W), 0..255.
        labels: int64 (N,).
        class_names: in the order of the labels.
        test_count: number of images at the end that are the official test set; 0 for none.
    """

    pixels: Tensor
    labels: Tensor
    class_names: list[str]
    test_count: int = 0


class ImageArrayDataModule(BaseDataModule):
    """Images kept as bytes, a quarter of their size as floats, and normalised batch by batch.

    A subclass defines `read`. It takes the arguments of `BaseDataModule`, except `test_fraction`
    if there is an official test set, and these:

    Args:
        shift: largest random shift of a training image in pixels.
        flip: whether to flip training images horizontally at random.
        augmentation: see `build_augmentation`.
    """

    task = "classification"

    def read(self) -> ImageArrays:
        """All images, the official test set last."""
        raise NotImplementedError

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the images and normalise them with the statistics of the training split."""
        arrays = self.read()
        labels = arrays.labels.numpy()
        count = len(labels)
        test = {"test": np.arange(count - arrays.test_count, count)} if arrays.test_count else {}
        samples = Samples(count, labels, arrays.class_names, given=test)
        splits = {name: torch.from_numpy(chosen) for name, chosen in self.split(samples).items()}
        _, channels, height, width = arrays.pixels.shape
        check_integer("data.shift", self.hparams["shift"], 0, min(height, width) - 1)
        statistics = pixel_statistics(arrays.pixels[splits["train"]])
        self.class_names = arrays.class_names
        self.input_shape = (channels, height, width)
        self.preprocessing = image_preprocessing(height, width, statistics)
        self.augment = Augment(self.preprocessing, self.hparams["shift"], self.hparams["flip"])
        self.augmentation = build_augmentation(
            self.hparams.get("augmentation"), self.preprocessing, self.task, self.num_classes
        )
        normalise = Normalise(self.preprocessing)
        return {
            name: BatchDataset(arrays.pixels[chosen], arrays.labels[chosen], normalise)
            for name, chosen in splits.items()
        }


def open_torchvision(
    dataset: Any, root: Path, files: Sequence[str], folder: str, **options: Any
) -> Any:
    """A dataset of torchvision.

    Args:
        dataset: its class.
        root: the folder for data.
        files: what torchvision downloads, for the message.
        folder: where the files belong, below `root`.
        options: `train` and `download` of the class.

    Raises:
        UserError: the files are missing or broken, and could not be downloaded.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS_WITHOUT_ANSWER)
    try:
        return dataset(root, **options)
    # A missing network, a refused write and a broken archive all end here.
    except (OSError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{dataset.__name__} is not in {root / folder} and could not be downloaded: put "
            f"{', '.join(files)} there, from a machine with a network (the reason was: {reason})."
        ) from error
    finally:
        socket.setdefaulttimeout(before)
