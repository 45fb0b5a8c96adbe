"""Small data sets in the file formats of the big ones."""

import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

CIFAR_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck".split()


def write_mnist(folder: Path, train: int = 600, test: int = 200) -> None:
    """Write real digits, enlarged from 8 to 24 pixels and framed, as four IDX files."""
    folder.mkdir(parents=True)
    digits = load_digits()
    pixels = np.kron(digits.images * 255 / 16, np.ones((1, 3, 3)))
    images = np.pad(pixels, ((0, 0), (2, 2), (2, 2))).round().astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    parts = (("train", slice(train)), ("t10k", slice(train, train + test)))
    for name, part in parts:
        count = len(labels[part])
        header = struct.pack(">IIII", 0x00000803, count, 28, 28)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(header + images[part].tobytes())
        header = struct.pack(">II", 0x00000801, count)
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(header + labels[part].tobytes())


def write_cifar(folder: Path, size: int = 60) -> None:
    """Write noise in ten colours, one for each class, as six pickled batches and their names."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    colours = rng.permutation(np.linspace(20, 235, 10)), rng.permutation(np.linspace(20, 235, 10))
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        labels = rng.integers(0, 10, size)
        pixels = rng.normal(0, 10, (size, 3, 32, 32)) + 128
        pixels[:, 0] += (colours[0][labels] - 128)[:, None, None]
        pixels[:, 2] += (colours[1][labels] - 128)[:, None, None]
        data = pixels.clip(0, 255).astype(np.uint8).reshape(size, -1)
        write_pickle(folder / name, {"data": data, "labels": labels.tolist()})
    write_pickle(folder / "batches.meta", {"label_names": CIFAR_CLASSES})


def write_pickle(path: Path, content: Any) -> None:
    """Write a file as CIFAR-10 has them."""
    path.write_bytes(pickle.dumps(content, protocol=2))
