"""Folders of images as people have them: nested, linked, split, in odd formats, broken."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from ..support.template_package import Part
from .conftest import Rejection, image_folder, truncate, write_images

SPLIT_OF = {"train": "train", "test": "test", "valid": "val", "val": "val"}
SPLIT_OF |= {"Training": "train", "Testing": "test"}


def test_unusual_images_look_as_in_a_viewer(package: Part, tmp_path: Path) -> None:
    read = package("data.images").read_image
    red, blue, half = (255, 0, 0), (0, 0, 255), (255, 127, 127)
    flag = Image.new("RGB", (16, 8), red)
    flag.paste(blue, (8, 0, 16, 8))  # red on the left, blue on the right

    flag.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    flag.save(tmp_path / "animation.gif", save_all=True, append_images=[Image.new("RGB", (16, 8))])
    for name in ("palette.png", "animation.gif"):
        pixels = read(tmp_path / name, 3, 8, 16)
        assert pixels[:, 4, 1].tolist() == list(red)
        assert pixels[:, 4, 14].tolist() == list(blue)

    # A camera held upright stores the image lying, and in EXIF how to turn it.
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    flag.save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    pixels = read(tmp_path / "turned.jpg", 3, 16, 8).int()
    assert (pixels[:, 1, 4] - torch.tensor(red)).abs().max() < 12  # red is above
    assert (pixels[:, 14, 4] - torch.tensor(blue)).abs().max() < 12

    # Transparent is white, whatever colour lies beneath.
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(tmp_path / "half.png")
    assert read(tmp_path / "clear.png", 3, 8, 8).min() == 255
    assert read(tmp_path / "half.png", 3, 8, 8)[:, 0, 0].tolist() == list(half)

    # Grey in 8 and in 16 bits, for a model of colours and for one of grey.
    Image.new("L", (8, 8), 100).save(tmp_path / "grey.png")
    Image.fromarray(np.full((8, 8), 100 * 257, np.uint16)).save(tmp_path / "grey16.png")
    for name in ("grey.png", "grey16.png"):
        assert read(tmp_path / name, 3, 8, 8).unique().tolist() == [100]
        assert read(tmp_path / name, 1, 4, 6).shape == (1, 4, 6)
        assert read(tmp_path / name, 1, 8, 8).unique().tolist() == [100]
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "cmyk.tif")
    assert read(tmp_path / "cmyk.tif", 3, 8, 8)[:, 0, 0].tolist() == list(red)


def test_large_photographs_are_averaged_not_sampled(package: Part, tmp_path: Path) -> None:
    """Stripes one pixel wide become grey; every 100th pixel would give black or white."""
    stripes = np.zeros((800, 800), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=95)
    for name in ("stripes.png", "stripes.jpg"):
        pixels = package("data.images").read_image(tmp_path / name, 1, 8, 8).int()
        assert (pixels - 127).abs().max() < 4


def test_a_folder_of_class_folders_is_split_by_class(data: ModuleType, folder: Path) -> None:
    (folder / "cat" / "more").mkdir()
    (folder / "cat" / "0.png").rename(folder / "cat" / "more" / "A.PNG")
    (folder / "cat" / ".DS_Store").write_text("hidden")
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / ".cache").mkdir()
    module = image_folder(data, folder, val_fraction=0.25, test_fraction=0.25)
    module.setup()
    assert module.class_names == ["cat", "dog"]
    assert module.num_samples == {"train": 12, "val": 6, "test": 6}
    paths = [path for dataset in module.datasets.values() for path in dataset.paths]
    assert len(set(paths)) == 24
    for dataset in module.datasets.values():
        assert dataset.labels.bincount().tolist() == [len(dataset) / 2] * 2
        for path, label in zip(dataset.paths, dataset.labels, strict=True):
            assert path.relative_to(folder).parts[0] == module.class_names[label]


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({"train": 10, "val": 3, "test": 4}, (20, 6, 8)),
        ({"Training": 10, "Testing": 4}, (16, 4, 8)),
        ({"train": 10, "valid": 3}, (16, 6, 4)),
        ({"train": 10}, (12, 4, 4)),
    ],
    ids=["all three", "no validation", "no test", "train only"],
)
def test_given_splits_are_kept(
    data: ModuleType, tmp_path: Path, given: dict[str, int], sizes: tuple[int, int, int]
) -> None:
    for split, count in given.items():
        for name in ("cat", "dog"):
            write_images(tmp_path / split / name, count)
    module = image_folder(data, tmp_path, val_fraction=0.2, test_fraction=0.2)
    module.setup()
    assert tuple(module.num_samples.values()) == sizes
    for split, dataset in module.datasets.items():
        folders = {path.relative_to(tmp_path).parts[0] for path in dataset.paths}
        mine = {name for name in given if SPLIT_OF[name] == split}
        assert folders == (mine or {name for name in given if SPLIT_OF[name] == "train"})
        # Not sorted by class: a run limited to one batch must see both.
        assert len(set(dataset.labels[:4].tolist())) == 2 or len(dataset) <= 4


@pytest.mark.parametrize("given", ["test", "val"])
def test_a_rare_class_is_in_the_split_that_is_cut_from_the_training_folder(
    data: ModuleType, tmp_path: Path, given: str
) -> None:
    cut = "val" if given == "test" else "test"
    for split, sizes in (("train", {"cat": 60, "dodo": 2}), (given, {"cat": 2, "dodo": 2})):
        for name, size in sizes.items():
            write_images(tmp_path / split / name, size, size=(4, 4))
    module = image_folder(data, tmp_path, height=4, width=4, shift=0)
    module.setup()
    # 15 % of 62 are 9.
    found = {name: dataset.labels.bincount().tolist() for name, dataset in module.datasets.items()}
    assert found == {"train": [52, 1], cut: [8, 1], given: [2, 2]}


def test_images_arrive_the_same_from_workers(data: ModuleType, folder: Path) -> None:
    alone, helped = (image_folder(data, folder, num_workers=count) for count in (0, 2))
    alone.setup()
    helped.setup()
    for (x, y), (x2, y2) in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_the_number_of_workers_follows_the_usable_cores(
    package: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = package("data.batches")
    for cores, processes, expected in ((1, 1, 0), (2, 1, 2), (64, 1, 8), (8, 4, 2), (4, 4, 0)):
        monkeypatch.setattr(batches, "usable_cores", lambda cores=cores: cores)
        assert batches.choose_workers("auto", processes) == expected
    assert batches.choose_workers(3) == 3


def test_a_broken_image_is_named_before_training(
    rejection: Rejection, data: ModuleType, folder: Path
) -> None:
    truncate(folder / "cat" / "3.png")
    assert str(folder / "cat" / "3.png") in rejection(image_folder(data, folder))
    (folder / "dog" / "5.png").write_text("hello")
    (folder / "dog" / "6.png").write_bytes(b"")
    message = rejection(image_folder(data, folder))
    assert message.startswith("3 images cannot be read")
    assert all(name in message for name in ("cat/3.png", "dog/5.png", "dog/6.png"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_image_that_breaks_later_is_named_without_the_workers_traceback(
    package: Part, data: ModuleType, folder: Path, num_workers: int
) -> None:
    module = image_folder(data, folder, num_workers=num_workers)
    module.setup()
    path = module.datasets["train"].paths[0]
    truncate(path)
    with pytest.raises(package("errors").UserError) as told:
        list(module.train_dataloader())
    assert str(told.value).startswith(f"The image {path} cannot be read (")
    assert "\n" not in str(told.value)


def _no_classes(root: Path) -> None:
    for path in list(root.glob("*/*.png")):
        path.rename(root / f"{path.parent.name}{path.name}")
    (root / "cat").rmdir()
    (root / "dog").rmdir()


def _other_classes(root: Path) -> None:
    shutil.rmtree(root)
    for split, second in (("train", "dog"), ("test", "bird")):
        for name in ("cat", second):
            write_images(root / split / name, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (shutil.rmtree, ["There is no folder", "data.path"]),
        (lambda root: (root / "bird").mkdir(), ["bird", "holds no image", ".jpg"]),
        (_no_classes, ["holds 0 class folders"]),
        (_other_classes, ["same class folders", "dog is missing", "bird is not in train"]),
        (lambda root: (root / "train").mkdir(), ["cat", "train/, val/ and test/"]),
    ],
    ids=["no root", "empty class", "no classes", "other classes", "unknown split"],
)
def test_a_folder_that_cannot_be_used_is_explained(
    rejection: Rejection,
    data: ModuleType,
    folder: Path,
    spoil: Callable[[Path], None],
    words: list[str],
) -> None:
    spoil(folder)
    message = rejection(image_folder(data, folder))
    assert all(word in message for word in words), message


# Symbolic links: an image counted twice is in training and test at once.


@pytest.fixture
def linked(folder: Path) -> Path:
    """Twelve images each of cats and dogs, and three of foxes elsewhere."""
    write_images(folder.parent / "elsewhere" / "fox", 3)
    return folder


def samples(data: ModuleType, root: Path) -> dict[str, int]:
    """The number of images of each class, in all splits together."""
    module = image_folder(data, root)
    module.setup()
    labels = sum(dataset.labels.bincount(minlength=2) for dataset in module.datasets.values())
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
def test_a_link_loop_adds_no_image(data: ModuleType, linked: Path, link: str, target: str) -> None:
    (linked / link).parent.mkdir(parents=True, exist_ok=True)
    (linked / link).symlink_to(target)
    assert samples(data, linked) == {"cat": 12, "dog": 12}


def test_loops_through_one_another_add_no_image(data: ModuleType, linked: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        (linked / "cat" / name).mkdir()
        (linked / "cat" / name / "other").symlink_to(f"../{other}")
    (linked / "cat" / "0.png").rename(linked / "cat" / "a" / "0.png")
    assert samples(data, linked) == {"cat": 12, "dog": 12}


def test_a_folder_elsewhere_is_followed_once(data: ModuleType, linked: Path) -> None:
    for name in ("cat/foxes", "cat/foxes again"):
        (linked / name).symlink_to("../../elsewhere/fox")
    assert samples(data, linked) == {"cat": 15, "dog": 12}


def test_a_class_may_be_elsewhere(data: ModuleType, linked: Path) -> None:
    (linked / "fox").symlink_to("../elsewhere/fox")
    assert samples(data, linked) == {"cat": 12, "dog": 12, "fox": 3}


@pytest.mark.parametrize(
    ("link", "target"), [("kitty", "cat"), ("cat/dogs", "../dog"), ("dog/cat.png", "../cat/0.png")]
)
def test_an_image_in_two_classes_is_rejected(
    rejection: Rejection, data: ModuleType, linked: Path, link: str, target: str
) -> None:
    (linked / link).symlink_to(target)
    assert "are the same file" in rejection(image_folder(data, linked))


def test_a_split_that_is_another_one_is_reported(
    data: ModuleType, linked: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (linked.parent / "splits").mkdir()
    for split in ("train", "val"):
        (linked.parent / "splits" / split).symlink_to(linked)
    with caplog.at_level(logging.WARNING):
        samples(data, linked.parent / "splits")
    assert any("metrics of val are those of training images" in text for text in caplog.messages)


def test_a_link_loop_is_predicted_once(package: Part, linked: Path) -> None:
    (linked / "cat" / "again").symlink_to(".")
    (linked / "cat" / "up").symlink_to("..")
    files = package("data.image_files").visible_files(linked)
    names = [path.relative_to(linked).as_posix() for path in files]
    expected = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(12)]
    assert names == sorted(expected)
