"""Images like MNIST's, made up and written as its files, so that nothing is downloaded."""

import struct
from pathlib import Path
from typing import Any


def write_images(folder: Path, count: int = 60_000, test_count: int = 10_000) -> None:
    """Write images like MNIST's, in its format: a blurred pattern a class, moved, under noise."""
    import numpy as np

    random = np.random.default_rng(0)
    coarse = random.integers(0, 200, (10, 7, 7), dtype=np.uint8)
    patterns = coarse.repeat(4, axis=1).repeat(4, axis=2)
    folder.mkdir(parents=True)
    for part, size in (("train", count), ("t10k", test_count)):
        labels = random.integers(0, 10, size, dtype=np.uint8)
        noise = random.integers(0, 55, (size, 28, 28), dtype=np.uint8)
        write_idx(folder / f"{part}-images-idx3-ubyte", patterns[labels] + noise)
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels)


def write_idx(path: Path, array: Any) -> None:
    """Write bytes in the IDX format: its magic number, the sizes, the values."""
    unsigned_byte = 8
    header = struct.pack(f">HBB{array.ndim}I", 0, unsigned_byte, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())
