"""MNIST, Fashion-MNIST and CIFAR-10, downloaded once by torchvision.

The official test set is the test split; the validation split is cut from the training set.
"""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision import datasets

from workbench.data.image_arrays import ImageArrayDataModule, ImageArrays, open_torchvision


class TorchvisionDataModule(ImageArrayDataModule):
    """A dataset of torchvision with images of one size.

    A subclass sets `dataset` and `classes` (None: those that the files name). If there is no
    network, a message names the `files` and their `folder` below `data_dir`.

    The arguments are those of `BaseDataModule` and `ImageArrayDataModule`, and:

    Args:
        data_dir: folder of the downloaded data.
    """

    dataset: type[Any]
    classes: ClassVar[list[str] | None]
    files: tuple[str, ...]
    folder: str

    def __init__(
        self,
        data_dir: str,
        batch_size: int = 128,
        val_fraction: float = 0.1,
        split_seed: int = 42,
        folds: int | None = None,
        fold: int | None = None,
        shift: int = 0,
        flip: bool = False,
        augmentation: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        data_dir = str(data_dir)
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Download the data unless they are there; with several processes, only one does.

        Raises:
            UserError: they are not there and cannot be downloaded.
        """
        self._open(train=True, download=True)

    def read(self) -> ImageArrays:
        """Official training images, then official test images."""
        train, test = self._open(train=True), self._open(train=False)
        pixels = np.concatenate([np.asarray(train.data), np.asarray(test.data)])
        if pixels.ndim == 3:  # grey images come without a channel axis
            pixels = pixels[..., None]
        return ImageArrays(
            torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(),
            torch.cat([torch.as_tensor(train.targets), torch.as_tensor(test.targets)]),
            self.classes or list(train.classes),
            test_count=len(test.targets),
        )

    def _open(self, **options: bool) -> Any:
        root = Path(self.hparams["data_dir"])
        return open_torchvision(self.dataset, root, self.files, self.folder, **options)


MNIST_FILES = tuple(
    f"{split}-{kind}-ubyte.gz"
    for split in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


class MNISTDataModule(TorchvisionDataModule):
    """70,000 handwritten digits, images (1, 28, 28).

    LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf
    """

    dataset = datasets.MNIST
    classes: ClassVar[list[str] | None] = [str(digit) for digit in range(10)]
    files = MNIST_FILES
    folder = "MNIST/raw"


class FashionMNISTDataModule(TorchvisionDataModule):
    """70,000 pieces of clothing, images (1, 28, 28); https://arxiv.org/abs/1708.07747."""

    dataset = datasets.FashionMNIST
    classes = datasets.FashionMNIST.classes
    files = MNIST_FILES
    folder = "FashionMNIST/raw"


class CIFAR10DataModule(TorchvisionDataModule):
    """60,000 photographs, images (3, 32, 32); https://www.cs.toronto.edu/~kriz/cifar.html."""

    dataset = datasets.CIFAR10
    classes = None
    files = ("cifar-10-python.tar.gz",)
    folder = ""
