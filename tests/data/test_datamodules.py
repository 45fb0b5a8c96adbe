"""The datamodules on files in the formats that people really have, and with what is wrong in them.

The template's package is imported where it lies, without baking a project.
"""

import gzip
import inspect
import json
import pickle
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ..support.template_package import PACKAGE, Part, template_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """Imports a module of the template's package; compiled files stay out of the template."""
    with template_package(tmp_path_factory.mktemp("package"), "package_of_data_tests") as package:
        yield package


@pytest.fixture(scope="module")
def data(package: Part) -> ModuleType:
    return package("data")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any file that is there; ours cannot have the checksums of the real ones."""
    monkeypatch.setattr("torchvision.datasets.utils.check_md5", lambda *_, **__: True)


def refusal(package: Part, module: Any) -> str:
    """What a datamodule says when it refuses, which must be a single line."""
    with pytest.raises(package("errors").UserError) as told:
        module.prepare_data()
        module.setup()
    message = str(told.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


def whole(module: Any, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = module.datasets[part]
    return dataset.__getitems__(list(range(len(dataset))))


def test_every_argument_stands_in_a_config(data: ModuleType) -> None:
    # Hydra refuses options that the config does not list, and offers those that it lists.
    seen = set()
    for path in (PACKAGE.parent / "configs" / "data").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text.replace("{{= cookiecutter.package_name }}", "package"))
        name = config.pop("_target_").rpartition(".")[2]
        parameters = inspect.signature(getattr(data, name)).parameters
        assert set(config) == set(parameters), name
        seen.add(name)
    assert seen == set(data.__all__)


# Downloaded images


def write_mnist(folder: Path, train: int, test: int, pack: bool = False) -> np.ndarray:
    """Files in the IDX format, image i filled with the value i, label i % 10."""
    folder.mkdir(parents=True)
    opened: Any = gzip.open if pack else open
    for part, first, count in (("train", 0, train), ("t10k", train, test)):
        values = np.arange(first, first + count)
        images = np.repeat(values.astype(np.uint8), 28 * 28)
        header = struct.pack(">IIII", 0x00000803, count, 28, 28)
        ending = ".gz" if pack else ""
        with opened(folder / f"{part}-images-idx3-ubyte{ending}", "wb") as file:
            file.write(header + images.tobytes())
        with opened(folder / f"{part}-labels-idx1-ubyte{ending}", "wb") as file:
            labels = (values % 10).astype(np.uint8).tobytes()
            file.write(struct.pack(">II", 0x00000801, count) + labels)
    return np.arange(train)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
@pytest.mark.parametrize("pack", [False, True], ids=["unpacked", "packed"])
def test_mnist_files_are_read(
    data: ModuleType, tmp_path: Path, no_network: None, no_checksums: None, name: str, pack: bool
) -> None:
    write_mnist(tmp_path / name / "raw", train=200, test=30, pack=pack)
    module = getattr(data, f"{name}DataModule")(tmp_path, batch_size=16)
    module.prepare_data()
    module.setup()
    assert module.num_samples == {"train": 180, "val": 20, "test": 30}
    assert module.input_shape == (1, 28, 28)
    assert module.class_names[9] == ("9" if name == "MNIST" else "Ankle boot")
    mean, std = module.preprocessing["mean"][0], module.preprocessing["std"][0]
    # The official test set is the test part, in its order.
    x, y = whole(module, "test")
    assert (x[:, 0, 0, 0] * std + mean).mul(255).round().tolist() == list(range(200, 230))
    assert y.tolist() == [i % 10 for i in range(200, 230)]
    # Train and val divide the official training set, and the mean is that of train alone.
    values = {}
    for part in ("train", "val"):
        x, y = whole(module, part)
        values[part] = (x[:, 0, 0, 0] * std + mean).mul(255).round().int()
        assert torch.equal(values[part] % 10, y.int())
    assert sorted([*values["train"].tolist(), *values["val"].tolist()]) == list(range(200))
    assert mean * 255 == pytest.approx(values["train"].double().mean().item())


def write_cifar(root: Path, pack: bool) -> None:
    """Six pickled batches of 40 pictures: red holds the label, green the batch, blue nothing."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        labels = [i % 10 for i in range(40)]
        pixels = np.zeros((40, 3, 32, 32), np.uint8)
        pixels[:, 0] = np.array(labels)[:, None, None]
        pixels[:, 1] = 10 * number
        batch = {"data": pixels.reshape(40, -1), "labels": labels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": names}, protocol=2))
    if pack:
        with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


@pytest.mark.parametrize("pack", [False, True], ids=["unpacked", "packed"])
def test_cifar_files_are_read(
    data: ModuleType, tmp_path: Path, no_network: None, no_checksums: None, pack: bool
) -> None:
    write_cifar(tmp_path, pack)
    module = data.CIFAR10DataModule(tmp_path, batch_size=16)
    module.prepare_data()
    module.setup()
    assert module.num_samples == {"train": 180, "val": 20, "test": 40}
    assert module.class_names[3] == "cat"
    assert module.input_shape == (3, 32, 32)
    mean, std = (torch.tensor(module.preprocessing[key]) for key in ("mean", "std"))
    for part, batches in (("train", {0, 10, 20, 30, 40}), ("test", {50})):
        x, y = whole(module, part)
        red, green, blue = ((x[:, :, 5, 7] * std + mean) * 255).round().int().unbind(1)
        assert torch.equal(red, y.int())  # colours and rows are where they belong
        assert set(green.tolist()) == batches
        assert blue.abs().max() == 0


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("MNISTDataModule", "MNIST/raw"),
        ("FashionMNISTDataModule", "FashionMNIST/raw"),
        ("CIFAR10DataModule", "cifar-10-python.tar.gz"),
    ],
)
def test_without_a_network_the_message_says_which_file_goes_where(
    package: Part, data: ModuleType, tmp_path: Path, no_network: None, name: str, file: str
) -> None:
    message = refusal(package, getattr(data, name)(tmp_path))
    assert str(tmp_path) in message
    assert file in message
    assert "no route to host" in message


def test_a_broken_download_is_told_in_one_line(
    package: Part, data: ModuleType, tmp_path: Path, no_network: None
) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    assert "cifar-10-python.tar.gz" in refusal(package, data.CIFAR10DataModule(tmp_path))


# The user's own pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 12 pictures."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        write_pictures(tmp_path / name, 12, random)
    return tmp_path


def write_pictures(folder: Path, count: int, random: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = random.integers(0, 256, (9, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def image_folder(data: ModuleType, path: Path, **options: Any) -> Any:
    options = {"height": 8, "width": 8, "batch_size": 4, "num_workers": 0} | options
    return data.ImageFolderDataModule(path, **options)


def test_awkward_pictures_look_as_in_a_viewer(package: Part, tmp_path: Path) -> None:
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

    # A camera held upright writes the picture lying, and in EXIF how to turn it.
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
    # Stripes one pixel wide become grey; taking every 100th pixel would give black or white.
    stripes = np.zeros((800, 800), np.uint8)
    stripes[:, ::2] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    Image.fromarray(stripes).save(tmp_path / "stripes.jpg", quality=95)
    for name in ("stripes.png", "stripes.jpg"):
        pixels = package("data.images").read_image(tmp_path / name, 1, 8, 8).int()
        assert (pixels - 127).abs().max() < 4


def test_a_folder_of_class_folders_is_divided_by_class(data: ModuleType, folder: Path) -> None:
    (folder / "cat" / "more").mkdir()
    (folder / "cat" / "0.png").rename(folder / "cat" / "more" / "A.PNG")
    (folder / "cat" / ".DS_Store").write_text("hidden")
    (folder / "cat" / "notes.txt").write_text("no picture")
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
    ("parts", "sizes"),
    [
        ({"train": 10, "val": 3, "test": 4}, (20, 6, 8)),
        ({"Training": 10, "Testing": 4}, (16, 4, 8)),
        ({"train": 10, "valid": 3}, (16, 6, 4)),
        ({"train": 10}, (12, 4, 4)),
    ],
    ids=["all three", "no validation", "no test", "train only"],
)
def test_parts_that_the_user_made_are_kept(
    data: ModuleType, tmp_path: Path, parts: dict[str, int], sizes: tuple[int, int, int]
) -> None:
    random = np.random.default_rng(0)
    for part, count in parts.items():
        for name in ("cat", "dog"):
            write_pictures(tmp_path / part / name, count, random)
    module = image_folder(data, tmp_path, val_fraction=0.2, test_fraction=0.2)
    module.setup()
    assert tuple(module.num_samples.values()) == sizes
    own = {"train": "train", "test": "test", "valid": "val", "val": "val"}
    own |= {"Training": "train", "Testing": "test"}
    for part, dataset in module.datasets.items():
        folders = {path.relative_to(tmp_path).parts[0] for path in dataset.paths}
        mine = {name for name in parts if own[name] == part}
        assert folders == (mine or {name for name in parts if own[name] == "train"})
        # Not sorted by class: a run limited to one batch must see both.
        assert len(set(dataset.labels[:4].tolist())) == 2 or len(dataset) <= 4


def test_pictures_arrive_the_same_from_workers(data: ModuleType, folder: Path) -> None:
    alone, helped = (image_folder(data, folder, num_workers=count) for count in (0, 2))
    alone.setup()
    helped.setup()
    for (x, y), (x2, y2) in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)


def test_workers_follow_the_cores_of_the_process(
    package: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = package("data.batches")
    for cores, processes, expected in ((1, 1, 0), (2, 1, 2), (64, 1, 8), (8, 4, 2), (4, 4, 0)):
        monkeypatch.setattr(workers, "usable_cores", lambda cores=cores: cores)
        assert workers.choose_workers("auto", processes) == expected
    assert workers.choose_workers(3) == 3


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_broken_picture_is_named_before_training(
    package: Part, data: ModuleType, folder: Path
) -> None:
    truncate(folder / "cat" / "3.png")
    message = refusal(package, image_folder(data, folder))
    assert str(folder / "cat" / "3.png") in message
    (folder / "dog" / "5.png").write_text("hello")
    (folder / "dog" / "6.png").write_bytes(b"")
    message = refusal(package, image_folder(data, folder))
    assert message.startswith("3 images cannot be read")
    assert all(name in message for name in ("cat/3.png", "dog/5.png", "dog/6.png"))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_picture_that_breaks_later_is_named_too(
    package: Part, data: ModuleType, folder: Path, num_workers: int
) -> None:
    module = image_folder(data, folder, num_workers=num_workers)
    module.setup()
    path = module.datasets["train"].paths[0]
    truncate(path)
    with pytest.raises(package("errors").UserError) as told:
        list(module.train_dataloader())
    # Without the worker's traceback.
    assert str(told.value).startswith(f"The image {path} cannot be read (")
    assert "\n" not in str(told.value)


def _no_root(root: Path) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    root.rmdir()


def _empty_class(root: Path) -> None:
    (root / "bird").mkdir()


def _no_classes(root: Path) -> None:
    for path in list(root.glob("*/*.png")):
        path.rename(root / f"{path.parent.name}{path.name}")
    (root / "cat").rmdir()
    (root / "dog").rmdir()


def _other_classes(root: Path) -> None:
    for part, second in (("train", "dog"), ("test", "bird")):
        for name in ("cat", second):
            write_pictures(root / part / name, 3, np.random.default_rng(0))
    for name in ("cat", "dog"):
        for path in (root / name).iterdir():
            path.unlink()
        (root / name).rmdir()


def _unknown_part(root: Path) -> None:
    (root / "train").mkdir()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_root, ["There is no folder", "data.path"]),
        (_empty_class, ["bird", "holds no image", ".jpg"]),
        (_no_classes, ["holds 0 class folders"]),
        (_other_classes, ["same class folders", "dog is missing", "bird is not in train"]),
        (_unknown_part, ["cat", "train/, val/ and test/"]),
    ],
)
def test_a_folder_that_cannot_be_used_is_explained(
    package: Part, data: ModuleType, folder: Path, spoil: Callable[[Path], None], words: list[str]
) -> None:
    root = folder / "pictures"
    root.mkdir()
    for name in ("cat", "dog"):
        (folder / name).rename(root / name)
    spoil(root)
    message = refusal(package, image_folder(data, root))
    assert all(word in message for word in words), message


# The user's own table

ROWS = [
    f"{20 + i},{'red' if i % 3 else 'green'},{i / 8},{'yes' if i % 2 else 'no'}" for i in range(40)
]
TABLE = "\n".join(["age,colour,size,bought", *ROWS])


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def changed(line: int, text: str) -> str:
    """The table with another text on one line, counted from 1."""
    lines = TABLE.split("\n")
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        TABLE + "\n",
        TABLE.replace("\n", "\r\n"),
        "\ufeff" + TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", " | "),
        TABLE.replace("\n", "\n\n"),
        TABLE.replace("red", '"red"').replace("age", '"age"'),
    ],
    ids=["plain", "last line", "Windows", "Excel", "semicolon", "tab", "bar", "gaps", "quotes"],
)
def test_the_same_table_in_any_dialect_gives_the_same_samples(
    data: ModuleType, tmp_path: Path, text: str
) -> None:
    plain = data.CSVDataModule(write(tmp_path / "plain.csv", TABLE), target="bought")
    module = data.CSVDataModule(write(tmp_path / "table.csv", text), target="bought")
    plain.setup()
    module.setup()
    assert module.describe() == plain.describe()
    assert module.describe()["class_names"] == ["no", "yes"]
    assert module.preprocessing["features"] == [
        "age", "colour=green", "colour=red", "colour=?", "size",
    ]  # fmt: skip
    for part in ("train", "val", "test"):
        assert torch.equal(whole(module, part)[0], whole(plain, part)[0])


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({"drop": ["size"]}, ["age", "colour=green", "colour=red", "colour=?"]),
        ({"numeric": ["size"]}, ["colour=green", "colour=red", "colour=?", "size"]),
        ({"numeric": ["size"], "categorical": []}, ["size"]),
        ({"categorical": []}, ["age", "size"]),
    ],
)
def test_the_user_chooses_the_columns(
    data: ModuleType, tmp_path: Path, options: dict[str, list[str]], features: list[str]
) -> None:
    module = data.CSVDataModule(write(tmp_path / "t.csv", TABLE), target="bought", **options)
    module.setup()
    assert module.preprocessing["features"] == features


@pytest.mark.parametrize(
    ("values", "task", "facts"),
    [
        (["b", "a"], "classification", ["a", "b"]),
        (["10", "9", "8"], "classification", ["8", "9", "10"]),
        ([str(i) for i in range(20)], "classification", [str(i) for i in range(20)]),
        ([str(i) for i in range(21)], "regression", None),
        (["0.5", "1", "2"], "regression", None),
    ],
)
def test_the_task_is_told_from_the_target(
    data: ModuleType, tmp_path: Path, values: list[str], task: str, facts: list[str] | None
) -> None:
    rows = [f"{i},{values[i % len(values)]}" for i in range(8 * len(values))]
    path = write(tmp_path / "t.csv", "\n".join(["x,y", *rows]))
    module = data.CSVDataModule(path, target="y")
    module.setup()
    assert module.task == task
    if facts is not None:
        assert module.class_names == facts
    else:
        forced = data.CSVDataModule(path, target="y", task="classification")
        forced.setup()
        assert forced.num_classes == len(values)


NUMBERS = "\n".join(["x,y", *(f"{i},{i}.5" for i in range(30))])


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (TABLE, {"target": "brought"}, ["no column 'brought'", "'bought'?"]),
        (TABLE, {"target": None}, ["data.target", "age, colour, size, bought"]),
        (TABLE, {"drop": ["colur"]}, ["no column 'colur'", "'colour'?"]),
        (TABLE, {"drop": ["age"], "numeric": ["age"]}, ["'age'", "more than one role"]),
        (TABLE, {"numeric": ["colour"]}, ["'colour'", "finite number", "lines 2, 3", "green"]),
        (TABLE, {"task": "guess"}, ["'guess'", "regression"]),
        (TABLE, {"task": "regression"}, ["'bought'", "finite number", "first 'no'"]),
        (TABLE, {"delimiter": ";;"}, ["';;'", "one character"]),
        (TABLE, {"drop": ["age", "colour", "size"]}, ["No column", "left"]),
        (changed(4, "1,red,2"), {}, ["4 columns", "line 4 (first 3)"]),
        (changed(4, "1,red,2,yes,no"), {}, ["4 columns", "line 4 (first 5)"]),
        (changed(6, "1,red,2,"), {}, ["'bought' is missing on line 6"]),
        (changed(6, "1,red,2,NA"), {}, ["'bought' is missing on line 6"]),
        (changed(5, "inf,red,2,no"), {}, ["'age' of", "not on line 5 (first 'inf')", "data.drop"]),
        (changed(5, "-1e999,red,2,no"), {}, ["(first '-1e999')", "data.categorical=[age,colour]"]),
        (changed(5, "1_0,red,2,no"), {"numeric": ["age"]}, ["'age'", "line 5", "'1_0'"]),
        (changed(1, "age,age,size,bought"), {}, ["more than one column called 'age'"]),
        (changed(2, '"1\n2",red,2,no\n1,red'), {}, ["line 4"]),
        (TABLE.replace("yes", "no"), {}, ["'bought'", "always 'no'"]),
        (NUMBERS, {"target": "z"}, ["no column 'z'", "x, y"]),
        (NUMBERS.replace("7.5", "7_5"), {"target": "y"},
         ["'y' of", "lines 9, 19, 29 (first '7_5')", "data.task=classification"]),
        ("x,y\n" + "1,2.50\n2,2.5\n" * 9, {"target": "y"}, ["'y'", "always 2.5"]),
        ("x,y\n" + "".join(f",{i}.5\n" for i in range(30)), {"target": "y"}, ["'x'", "no value"]),
        ("x,y\n1,2.5\n2,3.5", {"target": "y"}, ["split would hold 0 of 2"]),
        ("\n".join(["x,y", *(f"a{i},{i}.5" for i in range(99))]), {"target": "y"},
         ["More than 50 different texts are in x of", "data.drop=[x]"]),
        ("", {}, ["holds no rows"]),
        ("age,colour,size,bought\n", {}, ["holds no rows"]),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_explained(
    package: Part, data: ModuleType, tmp_path: Path, text: str, options: dict[str, Any],
    words: list[str],
) -> None:  # fmt: skip
    path = write(tmp_path / "table.csv", text)
    message = refusal(package, data.CSVDataModule(path, **({"target": "bought"} | options)))
    assert all(word in message for word in words), message


def test_a_file_that_is_no_table_is_explained(
    package: Part, data: ModuleType, tmp_path: Path
) -> None:
    for path in (
        tmp_path / "missing.csv",
        tmp_path,
        write(tmp_path / "excel.txt", TABLE, encoding="utf-16"),
        write(tmp_path / "latin.csv", TABLE.replace("red", "grün"), encoding="latin-1"),
    ):
        message = refusal(package, data.CSVDataModule(path, target="bought"))
        assert str(path) in message
        assert "CSV" in message


def test_many_bad_lines_are_counted_not_listed(
    package: Part, data: ModuleType, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.csv", TABLE.replace(",yes", ","))
    message = refusal(package, data.CSVDataModule(path, target="bought"))
    assert "lines 3, 5, 7, 9, 11 and 15 more" in message


def test_the_row_numbers_of_a_data_frame_are_not_learnt(
    data: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{i},{row}" for i, row in enumerate(TABLE.split("\n"))]
    rows[0] = rows[0].replace("0,", ",", 1)
    module = data.CSVDataModule(write(tmp_path / "t.csv", "\n".join(rows)), target="bought")
    module.setup()
    assert module.preprocessing["features"][0] == "age"
    assert "(no name)" in caplog.text


# New inputs for a trained model


@pytest.fixture
def table_model(data: ModuleType, tmp_path: Path) -> dict[str, Any]:
    """The preprocessing in a checkpoint of a model of the table."""
    module = data.CSVDataModule(write(tmp_path / "train.csv", TABLE), target="bought")
    module.setup()
    return json.loads(json.dumps(module.preprocessing))


def test_a_new_table_needs_only_the_columns_of_the_model(
    package: Part, table_model: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "new.csv", "note;size;colour;age\nx;1;red;20\ny;;violet;\nz;1;;20")
    inputs = package("data.inputs").read_inputs(table_model, path)
    assert inputs.good == [0, 1, 2]
    assert inputs.errors == {}
    age, size = table_model["columns"][0], table_model["columns"][2]
    # The second row: medians, and a colour that training never saw.
    assert inputs.x[1].tolist() == pytest.approx(
        [
            (age["median"] - age["mean"]) / age["std"],
            *[0, 0, 1],
            (size["median"] - size["mean"]) / size["std"],
        ]
    )
    assert inputs.x[:, 1:4].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]


def test_bad_rows_are_told_by_line_and_none_is_lost(
    package: Part, table_model: dict[str, Any], tmp_path: Path
) -> None:
    text = 'age,colour,size\n1,red,2\n\n"1",red\nold,red,2\n1,"re\nd",inf\n5,green,6'
    inputs = package("data.inputs").read_inputs(table_model, write(tmp_path / "n.csv", text))
    assert inputs.names == ["line 2", "line 4", "line 5", "line 6", "line 8"]
    assert inputs.good == [0, 4]
    assert len(inputs.x) == 2
    assert set(inputs.errors) == {1, 2, 3}
    assert "'old'" in inputs.errors[2]
    assert "'inf'" in inputs.errors[3]


def test_a_table_of_bad_rows_gives_no_inputs_and_all_reasons(
    package: Part, table_model: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "n.csv", "age,colour,size\n1\n2")
    inputs = package("data.inputs").read_inputs(table_model, path)
    assert inputs.x.shape == (0, 5)
    assert len(inputs.errors) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age,color,size\n1,red,2", ["no column 'colour'", "'color'?"]),
        ("age,colour,size", ["no rows"]),
        (None, ["There is nothing at"]),
    ],
)
def test_a_new_table_that_does_not_fit_is_explained(
    package: Part, table_model: dict[str, Any], tmp_path: Path, text: str | None, words: list[str]
) -> None:
    path = tmp_path / "new.csv"
    if text is not None:
        write(path, text)
    with pytest.raises(package("errors").UserError) as told:
        package("data.inputs").read_inputs(table_model, path)
    assert all(word in str(told.value) for word in words)


def test_pictures_of_all_kinds_become_inputs(package: Part, data: ModuleType, folder: Path) -> None:
    read_inputs = package("data.inputs").read_inputs
    module = image_folder(data, folder, channels=1, height=5, width=7)
    module.setup()
    spec = json.loads(json.dumps(module.preprocessing))
    truncate(folder / "cat" / "1.png")
    (folder / "notes.txt").write_text("no picture")
    inputs = read_inputs(spec, folder)
    assert len(inputs.names) == 25
    assert inputs.x.shape == (23, 1, 5, 7)
    assert {inputs.names[position] for position in inputs.errors} == {"cat/1.png", "notes.txt"}
    assert sorted([*inputs.good, *inputs.errors]) == list(range(25))
    single = read_inputs(spec, folder / "dog" / "4.png")
    assert single.names == ["4.png"]
    place = inputs.good.index(inputs.names.index("dog/4.png"))
    assert torch.equal(single.x[0], inputs.x[place])
    broken = read_inputs(spec, folder / "cat" / "1.png")
    assert broken.x.shape == (0, 1, 5, 7)
    assert "cannot be read" in broken.errors[0]


def test_the_wrong_kind_of_input_is_refused(
    package: Part, data: ModuleType, table_model: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    module = image_folder(data, folder)
    module.setup()
    (tmp_path / "empty").mkdir()
    for spec, path, words in (
        (table_model, folder, "give a CSV file"),
        (module.preprocessing, tmp_path / "train.csv", "trained on images"),
        (module.preprocessing, tmp_path / "empty", "holds no image"),
    ):
        with pytest.raises(package("errors").UserError, match=words):
            package("data.inputs").read_inputs(spec, path)


def test_a_digit_saved_as_a_picture_is_the_digit_of_training(
    package: Part, data: ModuleType, tmp_path: Path
) -> None:
    module = data.DigitsDataModule()
    module.setup()
    pixels = module.datasets["test"].x[0, 0]
    Image.fromarray(pixels.numpy()).save(tmp_path / "digit.png")
    inputs = package("data.inputs").read_inputs(module.preprocessing, tmp_path)
    assert torch.equal(inputs.x[0], whole(module, "test")[0][0])
    assert pixels.max() > 200  # the full range of a picture, not 0 to 16
