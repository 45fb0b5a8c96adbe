"""The user's own pictures: one folder for each class.

    pictures/cat/1.jpg              pictures/train/cat/1.jpg
    pictures/cat/2.png       or     pictures/val/cat/2.png       (val and test may be missing)
    pictures/dog/...                pictures/test/dog/...

Pictures stay on disk; worker processes read them by the batch.
"""

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .augment import Augment
from .base import BaseDataModule
from .batches import Batch
from .checks import check_whole
from .images import (
    Normalise,
    PictureError,
    black,
    image_preprocessing,
    pixel_histogram,
    read_picture,
)
from .picture_files import (
    Pictures,
    check_same_classes,
    class_folders,
    find_pictures,
    part_folders,
)
from .splits import shuffled, split_in_three, split_off
from .workers import available_cores, choose_workers


class PictureDataset(Dataset[Batch]):
    """Pictures read from disk by the batch.

    Args:
        pictures: files and labels.
        preprocessing: the values made by `image_preprocessing`.
    """

    def __init__(self, pictures: Pictures, preprocessing: dict[str, Any]) -> None:
        self.paths, self.labels = pictures.paths, torch.from_numpy(pictures.labels)
        self.size = [preprocessing[name] for name in ("channels", "height", "width")]
        self.normalise = Normalise(preprocessing)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of these pictures; PyTorch calls this instead of `__getitem__`."""
        pixels = torch.stack([read_picture(self.paths[index], *self.size) for index in indices])
        return self.normalise(pixels), self.labels[indices]

    def __getitem__(self, index: int) -> Batch:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def fingerprint(self) -> str:
        """The same for pictures with the same names, sizes and labels in the same order.

        What is in them is not read, which would take as long as an epoch.
        """
        content = hashlib.sha256()
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            content.update(f"{path.name} {path.stat().st_size} {label}\n".encode())
        return content.hexdigest()[:16]


class ImageFolderDataModule(BaseDataModule):
    """A folder of class folders.

    If there are no folders for validation or test, these parts are cut from the training pictures.

    Args:
        path: the folder.
        height: of the model's input; every picture is stretched to it.
        width: of the model's input.
        channels: 3 for colour, 1 for grey.
        batch_size: samples in a batch.
        val_fraction: share of all pictures that have no part yet, for validation.
        test_fraction: share of all pictures that have no part yet, for the test.
        split_seed: fixes the parts, whatever the run's seed.
        shift: largest random shift of a training image in pixels.
        flip: mirror training images at random.
        num_workers: processes that read pictures, or "auto".
        pictures_to_check: so many pictures of each part are read before training; those of the
            training part give the mean and deviation.
    """

    task = "classification"

    def __init__(
        self,
        path: str,
        height: int = 64,
        width: int = 64,
        channels: int = 3,
        batch_size: int = 32,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        split_seed: int = 42,
        shift: int = 4,
        flip: bool = True,
        num_workers: int | str = "auto",
        pictures_to_check: int = 1000,
    ) -> None:
        super().__init__()
        path = str(path)
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        """Find and check the pictures, on the first call only.

        Raises:
            UserError: the arguments or the folder cannot be used.
        """
        super().setup(stage)
        processes = self.trainer.num_devices if self.trainer is not None else 1
        self.num_workers = choose_workers(self.hparams["num_workers"], processes)

    def check_arguments(self) -> None:
        """Raise a UserError for an argument that cannot be used."""
        super().check_arguments()
        height, width, channels = (self.hparams[name] for name in ("height", "width", "channels"))
        if channels not in (1, 3):
            raise UserError(f"data.channels must be 3 (colour) or 1 (grey), not {channels!r}.")
        check_whole("height", height, smallest=1)
        check_whole("width", width, smallest=1)
        check_whole("shift", self.hparams["shift"], 0, min(height, width) - 1)
        check_whole("pictures_to_check", self.hparams["pictures_to_check"], smallest=1)

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the pictures, read a bounded number of each part and take the statistics."""
        height, width = self.hparams["height"], self.hparams["width"]
        size = (self.hparams["channels"], height, width)
        parts = self._find_parts(Path(self.hparams["path"]).expanduser())
        histogram = self._read_some(parts, size)["train"]
        self.input_shape = size
        self.preprocessing = image_preprocessing(height, width, histogram)
        self.augment = Augment(
            self.hparams["shift"], self.hparams["flip"], black(self.preprocessing)
        )
        return {part: PictureDataset(found, self.preprocessing) for part, found in parts.items()}

    def _find_parts(self, root: Path) -> dict[str, Pictures]:
        folders = part_folders(root)
        self.class_names = class_folders(folders["train"])
        for folder in folders.values():
            check_same_classes(folders["train"], folder)
        found = {part: find_pictures(folder, self.class_names) for part, folder in folders.items()}
        return self._fill_parts(found)

    def _fill_parts(self, found: dict[str, Pictures]) -> dict[str, Pictures]:
        """The parts that the user made, and the missing ones cut from the training pictures."""
        seed, names = self.hparams["split_seed"], self.class_names
        val_fraction, test_fraction = self.hparams["val_fraction"], self.hparams["test_fraction"]
        train = found["train"]
        labels, count = train.labels, len(train.labels)
        missing = [part for part in ("val", "test") if part not in found]
        if len(missing) == 2:
            split = split_in_three(count, val_fraction, test_fraction, seed, labels, names)
            return {part: train.at(indices) for part, indices in split.items()}
        parts = {
            part: pictures.at(shuffled(len(pictures.paths), seed))
            for part, pictures in found.items()
        }
        for part in missing:
            fraction = self.hparams[f"{part}_fraction"]
            size = round(count * fraction)
            kept, taken = split_off(part, np.arange(count), size, seed, labels, names)
            parts |= {"train": train.at(kept), part: train.at(taken)}
        return {part: parts[part] for part in ("train", "val", "test")}

    def _read_some(
        self, parts: dict[str, Pictures], size: tuple[int, int, int]
    ) -> dict[str, Tensor]:
        """Histograms of the first pictures of each part, a fair sample: the order is random."""
        histograms: dict[str, Tensor] = {}
        broken: dict[Path, PictureError] = {}
        for part, pictures in parts.items():
            some = pictures.paths[: self.hparams["pictures_to_check"]]
            histograms[part], errors = read_histogram(some, size)
            broken |= errors
        if len(broken) == 1:
            raise next(iter(broken.values()))
        if broken:
            raise UserError(
                f"{len(broken)} pictures cannot be read, mend or remove them: "
                f"{', '.join(str(path) for path in list(broken)[:5])}"
                f"{' and more' if len(broken) > 5 else ''}."
            )
        return histograms


def read_histogram(
    paths: Sequence[Path], size: tuple[int, int, int]
) -> tuple[Tensor, dict[Path, PictureError]]:
    """How often each pixel value occurs in these pictures, (C, 256), and why some are not read."""

    def count(path: Path) -> Tensor | PictureError:
        try:
            return pixel_histogram(read_picture(path, *size).unsqueeze(0))
        except PictureError as error:
            return error

    # Threads suffice: Pillow decodes without holding the interpreter.
    with ThreadPoolExecutor(available_cores()) as pool:
        results = list(pool.map(count, paths))
    histogram = torch.zeros(size[0], 256, dtype=torch.int64)
    broken: dict[Path, PictureError] = {}
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, Tensor):
            histogram += result
        else:
            broken[path] = result
    return histogram, broken
