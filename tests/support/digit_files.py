"""Digits of scikit-learn as image files, one folder per class."""

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

# Pixels in height and width.
SIDE = 32


def write_digits(folder: Path, digit: int, first: int, count: int) -> None:
    """Write some images of a digit."""
    folder.mkdir(parents=True)
    images, labels = load_digits(return_X_y=True)
    for number, image in enumerate(images[labels == digit][first : first + count]):
        pixels = (image.reshape(8, 8) * 15).astype("uint8")
        Image.fromarray(pixels).resize((SIDE, SIDE)).save(folder / f"{number}.png")
