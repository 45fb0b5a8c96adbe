"""MNIST, Fashion-MNIST and CIFAR-10, downloaded once by torchvision.

The official test set is the test part; the validation part is cut from the official training set.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torchvision import datasets

from workbench.data.image_arrays import ImageArrayDataModule, ImageArrays
from workbench.errors import UserError

# Without a limit, a network that swallows packets holds the download for many minutes.
SECONDS_WITHOUT_ANSWER = 20


class TorchvisionDataModule(ImageArrayDataModule):
    """A dataset of torchvision with images of one size.

    A subclass names `dataset`, `classes` (None: those that the files name), and, for the message
    when there is no network, the `files` and the `folder` under data_dir where they belong.

    Args:
        data_dir: folder of the downloaded data.
        batch_size: samples in a batch.
        val_fraction: share of the official training set for validation; unused with `folds`.
        split_seed: fixes the parts, whatever the run's seed.
        folds: number of folds of a cross-validation, which divide the official training set; null
            for a single split.
        fold: the fold to validate on, counted from 0; null lets train.py train all of them.
        shift: largest random shift of a training image in pixels.
        flip: mirror training images at random.
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
    ) -> None:
        super().__init__()
        data_dir = str(data_dir)
        self.save_hyperparameters(logger=False)

    def prepare_data(self) -> None:
        """Download the data if they are not there yet; with several processes, one does it.

        Raises:
            UserError: they are not there and cannot be downloaded.
        """
        with socket_timeout(SECONDS_WITHOUT_ANSWER):
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

    def _open(self, train: bool, download: bool = False) -> Any:
        root = Path(self.hparams["data_dir"])
        try:
            return self.dataset(root, train=train, download=download)
        # No network, a refused write, a broken archive: all end here.
        except (OSError, RuntimeError, EOFError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{self.dataset.__name__} is not in {root / self.folder} and could not be "
                f"downloaded: put {', '.join(self.files)} there, from a machine with a network "
                f"(the reason was: {reason})."
            ) from error


MNIST_FILES = tuple(
    f"{part}-{kind}-ubyte.gz"
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
)


class MNISTDataModule(TorchvisionDataModule):
    """70,000 handwritten digits, images (1, 28, 28).

    LeCun et al. 1998, http://yann.lecun.com/exdb/publis/pdf/lecun-98.pdf

    The arguments are those of `TorchvisionDataModule`.
    """

    dataset = datasets.MNIST
    classes: ClassVar[list[str] | None] = [str(digit) for digit in range(10)]
    files = MNIST_FILES
    folder = "MNIST/raw"


class FashionMNISTDataModule(TorchvisionDataModule):
    """70,000 pieces of clothing, images (1, 28, 28).

    https://arxiv.org/abs/1708.07747

    The arguments are those of `TorchvisionDataModule`.
    """

    dataset = datasets.FashionMNIST
    classes = datasets.FashionMNIST.classes
    files = MNIST_FILES
    folder = "FashionMNIST/raw"


class CIFAR10DataModule(TorchvisionDataModule):
    """60,000 photographs, images (3, 32, 32).

    https://www.cs.toronto.edu/~kriz/cifar.html

    The arguments are those of `TorchvisionDataModule`.
    """

    dataset = datasets.CIFAR10
    classes = None
    files = ("cifar-10-python.tar.gz",)
    folder = ""


@contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Let every new connection give up after so many seconds without an answer."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
