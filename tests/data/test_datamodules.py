"""The downloaded datasets in their own file formats, and the configs of all datamodules."""

import gzip
import inspect
import pickle
import struct
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
import yaml

from ..support.template_package import PACKAGE
from .conftest import Rejection, whole


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", refuse)


@pytest.fixture
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accept any file that is there; ours cannot have the checksums of the real ones."""
    monkeypatch.setattr("torchvision.datasets.utils.check_md5", lambda *_, **__: True)


def test_configs_list_every_argument(data: ModuleType) -> None:
    """Hydra rejects options that the config does not list, and offers those that it lists."""
    seen = set()
    for path in (PACKAGE.parent / "configs" / "data").glob("*.yaml"):
        text = path.read_text(encoding="utf-8")
        config = yaml.safe_load(text.replace("{{= cookiecutter.package_name }}", "package"))
        name = config.pop("_target_").rpartition(".")[2]
        # Groups, such as augmentation, are options as well.
        chosen = [entry for entry in config.pop("defaults", ()) if entry != "_self_"]
        config |= {option: value for entry in chosen for option, value in entry.items()}
        assert set(config) == set(inspect.signature(getattr(data, name)).parameters), name
        seen.add(name)
    assert seen == set(data.__all__)


def write_mnist(folder: Path, train: int, test: int, pack: bool) -> None:
    """Files in the IDX format, image i filled with the value i, label i % 10."""
    folder.mkdir(parents=True)
    opened: Any = gzip.open if pack else open
    for name, first, count in (("train", 0, train), ("t10k", train, test)):
        values = np.arange(first, first + count)
        images = np.repeat(values.astype(np.uint8), 28 * 28)
        labels = (values % 10).astype(np.uint8)
        for kind, header, content in (
            ("images-idx3", struct.pack(">IIII", 0x00000803, count, 28, 28), images),
            ("labels-idx1", struct.pack(">II", 0x00000801, count), labels),
        ):
            with opened(folder / f"{name}-{kind}-ubyte{'.gz' if pack else ''}", "wb") as file:
                file.write(header + content.tobytes())


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
    values = {}
    for split in ("train", "val", "test"):
        x, y = whole(module, split)
        values[split] = (x[:, 0, 0, 0] * std + mean).mul(255).round().int()
        assert torch.equal(values[split] % 10, y.int())
    # The official test set is the test split, in its order.
    assert values["test"].tolist() == list(range(200, 230))
    # Train and val divide the official training set, and the mean is that of train alone.
    assert sorted([*values["train"].tolist(), *values["val"].tolist()]) == list(range(200))
    assert mean * 255 == pytest.approx(values["train"].double().mean().item())


def write_cifar(root: Path, pack: bool) -> None:
    """Six pickled batches of 40 images: red holds the label, green the batch, blue nothing."""
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
        folder.rename(root / "elsewhere")


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
    for split, batches in (("train", {0, 10, 20, 30, 40}), ("test", {50})):
        x, y = whole(module, split)
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
def test_without_a_network_the_message_names_the_file_and_its_folder(
    rejection: Rejection, data: ModuleType, tmp_path: Path, no_network: None, name: str, file: str
) -> None:
    message = rejection(getattr(data, name)(tmp_path))
    assert str(tmp_path) in message
    assert file in message
    assert "no route to host" in message


def test_a_broken_download_is_one_sentence(
    rejection: Rejection, data: ModuleType, tmp_path: Path, no_network: None
) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"not an archive")
    assert "cifar-10-python.tar.gz" in rejection(data.CIFAR10DataModule(tmp_path))
