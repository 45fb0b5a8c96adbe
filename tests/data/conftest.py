"""The template's data modules, imported where they lie."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ..support.tables import rejection_of, tables
from ..support.template_package import Part

__all__ = ["tables"]

ROWS = [
    f"{20 + i},{'red' if i % 3 else 'green'},{i / 8},{'yes' if i % 2 else 'no'}" for i in range(40)
]
TABLE = "\n".join(["age,colour,size,bought", *ROWS])
# Sets a datamodule up, which must raise a UserError, and returns its one-sentence message.
Rejection = Callable[[Any], str]


@pytest.fixture(scope="module")
def data(package: Part) -> ModuleType:
    """The user's datamodules."""
    return package("data")


@pytest.fixture
def rejection(package: Part) -> Rejection:
    """See `Rejection`."""
    return partial(rejection_of, package)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 12 images."""
    for name in ("cat", "dog"):
        write_images(tmp_path / "images" / name, 12)
    return tmp_path / "images"


def write_images(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (9, 11)) -> None:
    """Write colour noise of this height and width."""
    folder.mkdir(parents=True)
    random = np.random.default_rng([seed, *folder.name.encode()])
    for number in range(count):
        pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def image_folder(data: ModuleType, path: Path, **options: Any) -> Any:
    """A datamodule of small images, read in this process."""
    options = {"height": 8, "width": 8, "batch_size": 4, "num_workers": 0} | options
    return data.ImageFolderDataModule(path, **options)


def truncate(path: Path) -> None:
    """Keep only the first half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def whole(module: Any, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All samples of a split in one batch."""
    dataset = module.datasets[split]
    x, y = dataset.__getitems__(list(range(len(dataset))))
    return x, y


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """Write a file without changing its line ends."""
    path.write_bytes(text.encode(encoding))
    return path
