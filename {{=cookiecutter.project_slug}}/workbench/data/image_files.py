"""Image files on disk: found in a folder of class folders, checked, and read by the batch."""

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from ..errors import UserError
from .batches import Batch
from .images import Normalise, read_image, reading_options
from .splits import SPLIT_NAMES, Indices, shuffled

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"}
)


class Grouping(StrEnum):
    """What the images of a group have in common."""

    FOLDER = "folder"  # the folder directly inside the class folder
    PREFIX = "prefix"  # the file name up to its first underscore or hyphen


@dataclass
class Images:
    """Image files and their class numbers, int64 (N,)."""

    paths: list[Path]
    labels: Indices

    def at(self, indices: Indices) -> "Images":
        """The images at these positions."""
        return Images([self.paths[index] for index in indices], self.labels[indices])


class ImageDataset(Dataset[Batch]):
    """Images read from disk batch by batch.

    Args:
        images: files and labels.
        preprocessing: the values made by `image_preprocessing`.
    """

    is_deterministic = True  # workers may persist from epoch to epoch

    def __init__(self, images: Images, preprocessing: dict[str, Any]) -> None:
        self.paths, self.labels = images.paths, torch.from_numpy(images.labels)
        self.options = reading_options(preprocessing)
        self.normalise = Normalise(preprocessing)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of these images; PyTorch calls this instead of `__getitem__`."""
        pixels = torch.stack([read_image(self.paths[index], *self.options) for index in indices])
        return self.normalise(pixels), self.labels[indices]

    def __getitem__(self, index: int) -> Batch:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def fingerprint(self) -> str:
        """Equal for images with the same names, sizes and labels in the same order.

        Their content is not read, which would take as long as an epoch.
        """
        content = hashlib.sha256()
        for path, label in zip(self.paths, self.labels.tolist(), strict=True):
            content.update(f"{path.name} {path.stat().st_size} {label}\n".encode())
        return content.hexdigest()[:16]


@dataclass
class ImageFolder:
    """The images in a folder of class folders, of all splits.

    Args:
        class_names: sorted.
        images: those of one split after those of another.
        groups: the name of each image's group (N,); None without groups.
        given: positions of the images in val/ and test/, in random order.
    """

    class_names: list[str]
    images: Images
    groups: NDArray[Any] | None
    given: dict[str, Indices]


def read_image_folder(root: Path, grouping: Grouping | None, seed: int) -> ImageFolder:
    """List the images in `<class>/` or `train/<class>/`, `val/<class>/`, `test/<class>/`.

    Args:
        root: the folder.
        grouping: what the images of a group have in common; None if images are independent.
        seed: determines the order of given splits.

    Raises:
        UserError: the folder is not laid out like that, or an image would be in two classes.
    """
    folders = split_folders(root)
    class_names = class_folders(folders["train"])
    for split, folder in folders.items():
        if split != "train":
            check_same_classes(folders["train"], folder)
    found = {split: find_images(folder, class_names) for split, folder in folders.items()}
    paths = [path for images in found.values() for path in images.paths]
    labels = np.concatenate([images.labels for images in found.values()])
    groups = None if grouping is None else group_images(found, folders, class_names, grouping)
    given, start = {}, 0
    for split, images in found.items():
        count = len(images.paths)
        if split != "train":
            given[split] = start + shuffled(count, seed)
        start += count
    return ImageFolder(class_names, Images(paths, labels), groups, given)


def split_folders(root: Path) -> dict[str, Path]:
    """The folders of class folders: train, optionally val and test, or the root itself as "train".

    Raises:
        UserError: the root is missing, or has a folder beside train/ that is not a split.
    """
    if not root.is_dir():
        raise UserError(
            f"There is no folder {root}: data.path must be a folder that holds one folder of "
            "images for each class."
        )
    names = {folder: SPLIT_NAMES.get(folder.name.lower()) for folder in subfolders(root)}
    if "train" not in names.values():
        return {"train": root}
    splits: dict[str, Path] = {}
    for folder, split in names.items():
        if split is None or split in splits:
            raise UserError(
                f"The folder {folder} beside {splits.get('train', 'train')} is ambiguous: a "
                "dataset that is already split holds train/, val/ and test/ and nothing else."
            )
        splits[split] = folder
    return splits


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the class folders.

    Raises:
        UserError: there are fewer than two.
    """
    names = [path.name for path in subfolders(folder)]
    if len(names) < 2:
        raise UserError(
            f"{folder} holds {len(names)} class folders: put the images of each class into a "
            "folder with the name of the class, at least two classes."
        )
    return names


def check_same_classes(train: Path, other: Path) -> None:
    """Raise a UserError unless both folders hold the same class folders.

    Links to the same folder only get a warning: a model knows its training images.
    """
    here = {path.name for path in subfolders(other)}
    wanted = {path.name for path in subfolders(train)}
    if here != wanted:
        missing = [f"{name} is missing" for name in sorted(wanted - here)]
        unknown = [f"{name} is not in {train.name}" for name in sorted(here - wanted)]
        raise UserError(
            f"{train} and {other} must hold the same class folders, but in {other.name} "
            f"{', '.join(missing + unknown)}."
        )
    same = [name for name in sorted(here) if (train / name).resolve() == (other / name).resolve()]
    if same:
        log.warning(
            "%s and %s are the same folder, so the metrics of %s are those of training images",
            train / same[0],
            other / same[0],
            other.name,
        )


def find_images(folder: Path, class_names: Sequence[str]) -> Images:
    """All images in the class folders, at any depth, sorted by class and name.

    An image that can be reached through several links is included once.

    Raises:
        UserError: a class folder holds no image, or two of them hold the same one.
    """
    paths: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    seen: dict[Path, Path] = {}
    for label, name in enumerate(class_names):
        files = list(visible_files(folder / name))
        images = [path for path in files if path.suffix.lower() in SUFFIXES]
        others += [path for path in files if path.suffix.lower() not in SUFFIXES]
        if not images:
            raise UserError(
                f"The class folder {folder / name} holds no image "
                f"({', '.join(sorted(SUFFIXES))}): add some or remove the folder."
            )
        new = _without_repeated(images, seen, folder / name)
        paths += new
        labels += [label] * len(new)
    if others:
        log.warning("%d files are not images and are ignored, e.g. %s", len(others), others[0])
    return Images(paths, np.array(labels))


def _without_repeated(images: Sequence[Path], seen: dict[Path, Path], folder: Path) -> list[Path]:
    """The images of a class folder that are not in `seen` yet, which maps actual to given paths.

    Raises:
        UserError: an image also belongs to another class.
    """
    new: list[Path] = []
    parents = {parent: parent.resolve() for parent in {path.parent for path in images}}
    for path in images:
        actual = path.resolve() if path.is_symlink() else parents[path.parent] / path.name
        if actual not in seen:
            seen[actual] = path
            new.append(path)
        elif not seen[actual].is_relative_to(folder):
            raise UserError(
                f"{path} and {seen[actual]} are the same file, which cannot belong to two "
                "classes: remove one of the links."
            )
    if len(new) < len(images):
        count = len(images) - len(new)
        log.warning("%d links to images that %s already holds are ignored", count, folder)
    return new


def group_images(
    found: Mapping[str, Images],
    folders: Mapping[str, Path],
    class_names: Sequence[str],
    grouping: Grouping,
) -> NDArray[Any]:
    """The name of each image's group; the same name in two classes is the same group.

    Args:
        found: the images by split.
        folders: the folder of class folders of each split.
        class_names: in the order of the labels.
        grouping: what the images of a group have in common.

    Raises:
        UserError: groups are folders, and an image is directly in its class folder.
    """
    names = []
    for split, images in found.items():
        for path, label in zip(images.paths, images.labels, strict=True):
            inside = path.relative_to(folders[split] / class_names[label])
            if grouping is Grouping.PREFIX:
                names.append(re.split("[_-]", path.stem, maxsplit=1)[0] or path.stem)
            elif len(inside.parts) > 1:
                names.append(inside.parts[0])
            else:
                raise UserError(
                    f"{path} is directly in its class folder: with data.group=folder put the "
                    "images of each group into a folder inside the class folder."
                )
    log.info("%d images in %d groups, e.g. %s", len(names), len(set(names)), names[0])
    return np.array(names)


def subfolders(folder: Path) -> list[Path]:
    """The visible folders directly inside a folder, sorted by name.

    Links to the folder itself or to one that contains it are left out.
    """
    inside = (path for path in folder.iterdir() if path.is_dir())
    actual = folder.resolve()
    return sorted(
        path
        for path in inside
        if not path.name.startswith(".") and not actual.is_relative_to(path.resolve())
    )


def visible_files(folder: Path) -> Iterator[Path]:
    """Every file below a folder in sorted order, without hidden ones.

    No folder is entered twice, and no link to a folder that contains it is followed.
    """
    above = (folder, *folder.absolute().parents)
    actual = Path(os.path.realpath(folder))
    return _walk(folder, {os.path.realpath(path) for path in (*above, *actual.parents)})


def _walk(folder: Path, entered: set[str]) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        actual = os.path.realpath(path)
        if not path.is_dir():
            yield path
        elif actual not in entered:
            entered.add(actual)
            yield from _walk(path, entered)
