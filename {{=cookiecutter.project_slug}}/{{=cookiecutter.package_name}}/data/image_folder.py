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

from workbench.data.augment import Augment
from workbench.data.base import BaseDataModule
from workbench.data.batches import Batch
from workbench.data.checks import check_whole
from workbench.data.images import (
    Normalise,
    black,
    image_preprocessing,
    read_picture,
    reading_options,
)
from workbench.data.picture_files import (
    Grouping,
    Pictures,
    check_same_classes,
    class_folders,
    find_pictures,
    group_pictures,
    part_folders,
)
from workbench.data.picture_sample import (
    check_readable,
    choose_side,
    measure_pictures,
    read_statistics,
)
from workbench.data.splits import Indices, Samples, shuffled
from workbench.data.wide_images import find_value_range
from workbench.data.workers import choose_workers
from workbench.errors import UserError


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
        val_fraction: share of all pictures that have no part yet, for validation; with `folds`, of
            the other folds' pictures.
        test_fraction: share of all pictures that have no part yet, for the test; unused with
            `folds`.
        split_seed: fixes the parts, whatever the run's seed.
        group: which pictures stay in one split: those of one "folder" inside the class folders, or
            those whose names have the same "prefix" before the first underscore or hyphen; null if
            pictures are independent of each other.
        folds: number of folds of a cross-validation; null for a single split. A test folder stays
            the test, and the folds are for validation.
        fold: the fold to hold out, counted from 0; null lets train.py train all of them.
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
        group: str | None = None,
        folds: int | None = None,
        fold: int | None = None,
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
        group = self.hparams["group"]
        if group is not None and group not in list(Grouping):
            raise UserError(f"data.group must be folder, prefix or null, not {group!r}.")
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
        pictures = Pictures(
            [path for each in found.values() for path in each.paths],
            np.concatenate([each.labels for each in found.values()]),
        )
        groups = None
        if self.hparams["group"] is not None:
            kind = Grouping(self.hparams["group"])
            groups = group_pictures(found, folders, self.class_names, kind)
        given = given_splits(found, self.hparams["split_seed"])
        samples = Samples(len(pictures.paths), pictures.labels, self.class_names, groups, given)
        return {part: pictures.at(indices) for part, indices in self.split(samples).items()}


def given_splits(found: dict[str, Pictures], seed: int) -> dict[str, Indices]:
    """Positions of the val and test pictures among all, in random order."""
    given = {}
    start = 0
    for part, pictures in found.items():
        count = len(pictures.paths)
        if part != "train":
            given[part] = start + shuffled(count, seed)
        start += count
    return given
