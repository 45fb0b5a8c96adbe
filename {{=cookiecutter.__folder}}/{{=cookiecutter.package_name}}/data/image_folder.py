"""The user's own pictures: one folder for each class.

    pictures/cat/1.jpg              pictures/train/cat/1.jpg
    pictures/cat/2.png       or     pictures/val/cat/2.png       (val and test may be missing)
    pictures/dog/...                pictures/test/dog/...

Pictures stay on disk; worker processes read them by the batch.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import UserError
from .augment import Augment
from .base import BaseDataModule
from .batches import Batch
from .checks import check_whole
from .images import Normalise, black, image_preprocessing, read_picture, reading_options
from .picture_files import (
    Pictures,
    check_same_classes,
    class_folders,
    find_pictures,
    part_folders,
)
from .picture_sample import check_readable, choose_side, measure_pictures, read_statistics
from .splits import shuffled, split_in_three, split_off
from .wide_images import find_value_range
from .workers import choose_workers


class PictureDataset(Dataset[Batch]):
    """Pictures read from disk by the batch.

    Args:
        pictures: files and labels.
        preprocessing: the values made by `image_preprocessing`.
    """

    is_deterministic = True  # workers may stay from epoch to epoch

    def __init__(self, pictures: Pictures, preprocessing: dict[str, Any]) -> None:
        self.paths, self.labels = pictures.paths, torch.from_numpy(pictures.labels)
        self.options = reading_options(preprocessing)
        self.normalise = Normalise(preprocessing)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of these pictures; PyTorch calls this instead of `__getitem__`."""
        pixels = torch.stack([read_picture(self.paths[index], *self.options) for index in indices])
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
        height: of the model's input, to which every picture is stretched; "auto" takes the median
            of the training pictures, but 16 pixels at least and 64 at most.
        width: of the model's input, as the height.
        channels: 3 for colour, 1 for grey.
        batch_size: samples in a batch.
        val_fraction: share of all pictures that have no part yet, for validation.
        test_fraction: share of all pictures that have no part yet, for the test.
        split_seed: fixes the parts, whatever the run's seed.
        shift: largest random shift of a training image in pixels.
        flip: mirror training images at random.
        num_workers: processes that read pictures, or "auto".
        pictures_to_check: so many pictures of each part are read before training; those of the
            training part give the mean, the deviation, the size and, of images of more than 8 bits,
            the range of values.
    """

    task = "classification"

    def __init__(
        self,
        path: str,
        height: int | str = "auto",
        width: int | str = "auto",
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
        channels = self.hparams["channels"]
        if channels not in (1, 3):
            raise UserError(f"data.channels must be 3 (colour) or 1 (grey), not {channels!r}.")
        for name in ("height", "width"):
            if self.hparams[name] != "auto":
                check_whole(name, self.hparams[name], smallest=1)
        check_whole("shift", self.hparams["shift"], smallest=0)
        check_whole("pictures_to_check", self.hparams["pictures_to_check"], smallest=1)

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the pictures, read a bounded number of each part and take the statistics."""
        parts = self._find_parts(Path(self.hparams["path"]).expanduser())
        # A fair sample: their order is random.
        some = {
            part: found.paths[: self.hparams["pictures_to_check"]] for part, found in parts.items()
        }
        facts = measure_pictures(some["train"])
        height = choose_side("height", self.hparams["height"], [f.height for f in facts])
        width = choose_side("width", self.hparams["width"], [f.width for f in facts])
        check_whole("shift", self.hparams["shift"], 0, min(height, width) - 1)
        self.input_shape = (self.hparams["channels"], height, width)
        value_range = find_value_range(facts)
        read = {
            part: read_statistics(paths, (*self.input_shape, value_range))
            for part, paths in some.items()
        }
        check_readable(
            {path: error for _, broken in read.values() for path, error in broken.items()}
        )
        self.preprocessing = image_preprocessing(height, width, read["train"][0], value_range)
        self.augment = Augment(
            self.hparams["shift"], self.hparams["flip"], black(self.preprocessing)
        )
        return {part: PictureDataset(found, self.preprocessing) for part, found in parts.items()}

    def _find_parts(self, root: Path) -> dict[str, Pictures]:
        folders = part_folders(root)
        self.class_names = class_folders(folders["train"])
        for part, folder in folders.items():
            if part != "train":
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
