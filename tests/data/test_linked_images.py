"""Folders with symbolic links: an image counted twice is in training and test at once."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ..support.template_package import Part, template_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    with template_package(tmp_path_factory.mktemp("package"), "package_of_link_tests") as package:
        yield package


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten images each of cats and dogs, and three of foxes elsewhere."""
    random = np.random.default_rng(0)
    for name, count in (("pictures/cat", 10), ("pictures/dog", 10), ("elsewhere/fox", 3)):
        (tmp_path / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path / "pictures"


def samples(package: Part, root: Path) -> dict[str, int]:
    """The number of images of each class, in all splits together."""
    module: Any = package("data").ImageFolderDataModule(root, height=8, width=8, num_workers=0)
    module.setup()
    labels = sum(data.labels.bincount(minlength=2) for data in module.datasets.values())
    return dict(zip(module.class_names, labels.tolist(), strict=True))


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("cat/again", "."),
        ("cat/up", ".."),
        ("cat/deep/down/again", "../.."),
        ("again", "."),
        ("up", "../.."),
        ("cat/own", "own"),
        ("cat/again.png", "0.png"),
        ("cat/more", "../cat"),
    ],
)
def test_a_link_loop_adds_no_image(package: Part, root: Path, link: str, target: str) -> None:
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(target)
    assert samples(package, root) == {"cat": 10, "dog": 10}


def test_loops_through_one_another_add_no_image(package: Part, root: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (root / "cat" / name).mkdir()
        (root / "cat" / name / "other").symlink_to(f"../{other}")
    (root / "cat" / "0.png").rename(root / "cat" / "a" / "0.png")
    assert samples(package, root) == {"cat": 10, "dog": 10}


def test_a_folder_elsewhere_is_followed_once(package: Part, root: Path) -> None:
    for name in ("cat/foxes", "cat/foxes again"):
        (root / name).symlink_to("../../elsewhere/fox")
    assert samples(package, root) == {"cat": 13, "dog": 10}


def test_a_class_may_lie_elsewhere(package: Part, root: Path) -> None:
    (root / "fox").symlink_to("../elsewhere/fox")
    assert samples(package, root) == {"cat": 10, "dog": 10, "fox": 3}


@pytest.mark.parametrize(
    ("link", "target"), [("kitty", "cat"), ("cat/dogs", "../dog"), ("dog/cat.png", "../cat/0.png")]
)
def test_an_image_in_two_classes_is_refused(
    package: Part, root: Path, link: str, target: str
) -> None:
    (root / link).symlink_to(target)
    with pytest.raises(package("errors").UserError, match="are the same file") as refused:
        samples(package, root)
    assert "\n" not in str(refused.value)


def test_a_split_that_is_another_one_is_reported(
    package: Part, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root.parent / "parts").mkdir()
    for part in ("train", "val"):
        (root.parent / "parts" / part).symlink_to(root)
    with caplog.at_level(logging.WARNING):
        samples(package, root.parent / "parts")
    assert any("metrics of val are those of training images" in text for text in caplog.messages)


def test_a_link_loop_is_predicted_once(package: Part, root: Path) -> None:
    (root / "cat" / "again").symlink_to(".")
    (root / "cat" / "up").symlink_to("..")
    names = [
        path.relative_to(root).as_posix()
        for path in package("data.image_files").visible_files(root)
    ]
    assert names == sorted(
        f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)
    )
