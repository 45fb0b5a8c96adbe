"""A table, a text and a folder of pictures such as people bring along."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"blood orange": (220, 70, 30), "lime": (120, 200, 40), "plum": (90, 40, 120)}


def write_flats(path: Path, rows: int) -> None:
    """Write flats whose price hangs on area and city; some cells are missing."""
    rng = np.random.default_rng(0)
    city = rng.choice(["Oslo", "Rome", "Zürich"], rows)
    area = rng.uniform(20, 120, rows).round(1)
    worth = {"Oslo": 5.0, "Rome": 3.0, "Zürich": 9.0}
    price = area * np.array([worth[name] for name in city]) + rng.normal(0, 10, rows)
    dear = np.where(price > np.median(price), "yes", "no")
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "city", "area", "noise", "price", "dear"])
        for i in range(rows):
            known = area[i] if i % 29 else "NA"
            place = city[i] if i % 31 else ""
            table.writerow([i, place, known, rng.normal(), price[i].round(2), dear[i]])


def write_book(path: Path, words: int) -> None:
    """Write a text of a few words, in a random order."""
    rng = np.random.default_rng(0)
    path.write_text(" ".join(rng.choice(["The", "cat", "für", "statement", "sat"], words)), "utf-8")


def write_fruit(folder: Path, per_class: int) -> None:
    """Write pictures of one colour each, in several sizes and formats."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(per_class):
            size = (*rng.integers(20, 60, 2), 3)
            pixels = (rng.normal(colour, 25, size)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.{'jpg' if i % 2 else 'png'}")
