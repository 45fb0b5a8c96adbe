"""Finding the pictures in a folder of class folders."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UserError
from .images import SUFFIXES, visible_files
from .splits import PART_NAMES, Indices

log = logging.getLogger(__name__)


class Grouping(StrEnum):
    """What images of one group have in common."""

    FOLDER = "folder"  # the folder directly inside the class folder
    PREFIX = "prefix"  # the file name up to its first underscore or hyphen


@dataclass
class Pictures:
    """Picture files and their class numbers.

    Args:
        paths: one for each picture.
        labels: int64, one for each picture.
    """

    paths: list[Path]
    labels: Indices

    def at(self, indices: Indices) -> "Pictures":
        """The pictures at these positions."""
        return Pictures([self.paths[index] for index in indices], self.labels[indices])


def part_folders(root: Path) -> dict[str, Path]:
    """The folders of class folders: train [val] [test], or the root itself as "train".

    Raises:
        UserError: the root is missing, or has a folder beside train/ that is none of the parts.
    """
    if not root.is_dir():
        raise UserError(
            f"There is no folder {root}: data.path must be a folder that holds one folder of "
            "pictures for each class."
        )
    folders = subfolders(root)
    names = {folder: PART_NAMES.get(folder.name.lower()) for folder in folders}
    if "train" not in names.values():
        return {"train": root}
    parts: dict[str, Path] = {}
    for folder, part in names.items():
        if part is None or part in parts:
            raise UserError(
                f"The folder {folder} beside {parts.get('train', 'train')} is unclear: a divided "
                "data set holds train/, val/ and test/ and nothing else."
            )
        parts[part] = folder
    return parts


def class_folders(folder: Path) -> list[str]:
    """Sorted names of the class folders.

    Raises:
        UserError: there are fewer than two.
    """
    names = [path.name for path in subfolders(folder)]
    if len(names) < 2:
        raise UserError(
            f"{folder} holds {len(names)} class folders: put the pictures of each class into a "
            "folder with the name of the class, two classes at least."
        )
    return names


def check_same_classes(train: Path, other: Path) -> None:
    """Raise a UserError unless both folders hold the same class folders.

    Folders that are links to the same one are reported: a model knows its training images.
    """
    here = {path.name for path in subfolders(other)}
    wanted = {path.name for path in subfolders(train)}
    if here != wanted:
        lacking = [f"{name} is missing" for name in sorted(wanted - here)]
        unknown = [f"{name} is not in {train.name}" for name in sorted(here - wanted)]
        raise UserError(
            f"{train} and {other} must hold the same class folders, but in {other.name} "
            f"{', '.join(lacking + unknown)}."
        )
    same = [name for name in sorted(here) if (train / name).resolve() == (other / name).resolve()]
    if same:
        log.warning(
            "%s and %s are the same folder, so the metrics of %s are those of training images",
            train / same[0],
            other / same[0],
            other.name,
        )


def find_pictures(folder: Path, class_names: Sequence[str]) -> Pictures:
    """All pictures in the class folders, at any depth, sorted by class and name.

    A picture that links lead to more than once is taken once.

    Raises:
        UserError: a class folder holds no picture, or two of them hold the same one.
    """
    paths: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    taken: dict[Path, Path] = {}
    for label, name in enumerate(class_names):
        files = list(visible_files(folder / name))
        pictures = [path for path in files if path.suffix.lower() in SUFFIXES]
        others += [path for path in files if path.suffix.lower() not in SUFFIXES]
        if not pictures:
            raise UserError(
                f"The class folder {folder / name} holds no picture "
                f"({', '.join(sorted(SUFFIXES))}): add some or remove the folder."
            )
        new = _without_repeated(pictures, taken, folder / name)
        paths += new
        labels += [label] * len(new)
    if others:
        log.warning("%d files are not pictures and are left out, e.g. %s", len(others), others[0])
    return Pictures(paths, np.array(labels))


def group_pictures(
    found: Mapping[str, Pictures],
    folders: Mapping[str, Path],
    class_names: Sequence[str],
    grouping: Grouping,
) -> NDArray[Any]:
    """The name of each picture's group; the same name in two classes is the same group.

    Args:
        found: the pictures by part.
        folders: the folder of class folders of each part.
        class_names: in the order of the labels.
        grouping: what the pictures of a group have in common.

    Raises:
        UserError: a picture lies directly in its class folder and groups are folders.
    """
    names = []
    for part, pictures in found.items():
        for path, label in zip(pictures.paths, pictures.labels, strict=True):
            inside = path.relative_to(folders[part] / class_names[label])
            if grouping is Grouping.PREFIX:
                names.append(re.split("[_-]", path.stem, maxsplit=1)[0] or path.stem)
            elif len(inside.parts) > 1:
                names.append(inside.parts[0])
            else:
                raise UserError(
                    f"{path} lies directly in its class folder: with data.group=folder put the "
                    "images of each group into a folder inside the class folder."
                )
    log.info("%d images in %d groups, e.g. %s", len(names), len(set(names)), names[0])
    return np.array(names)


def subfolders(folder: Path) -> list[Path]:
    """The folders directly inside a folder, sorted by name.

    Hidden ones are left out, and links to the folder itself or to one that contains it.
    """
    inside = (path for path in folder.iterdir() if path.is_dir())
    actual = folder.resolve()
    return sorted(
        path
        for path in inside
        if not path.name.startswith(".") and not actual.is_relative_to(path.resolve())
    )


def _without_repeated(
    pictures: Sequence[Path], taken: dict[Path, Path], class_folder: Path
) -> list[Path]:
    """The pictures of a class that are not in `taken` yet, which maps actual to given paths.

    Raises:
        UserError: a picture was taken for another class.
    """
    new: list[Path] = []
    folders = {folder: folder.resolve() for folder in {path.parent for path in pictures}}
    for path in pictures:
        actual = path.resolve() if path.is_symlink() else folders[path.parent] / path.name
        if actual not in taken:
            taken[actual] = path
            new.append(path)
        elif not taken[actual].is_relative_to(class_folder):
            raise UserError(
                f"{path} and {taken[actual]} are the same file, which cannot belong to two "
                "classes: remove one of the links."
            )
    if len(new) < len(pictures):
        count = len(pictures) - len(new)
        log.warning("%d links to images that %s already holds are left out", count, class_folder)
    return new
