"""Labelled texts whose labels depend on the order of words near their ends."""

import csv
import random
from pathlib import Path

FILLER = "some of the trees are old and very tall here".split()
NAMES = [("cat", "dog"), ("dog", "cat")]


def write_orders(path: Path, pairs: int = 300, **columns: list[str]) -> Path:
    """Write texts in pairs of the same words in another order, with the labels "cat" and "dog".

    Their bytes or words without their order say nothing about the label, and neither do the first
    ones.
    """
    draw = random.Random(0)
    rows = []
    for _ in range(pairs):
        start, last = " ".join(draw.choices(FILLER, k=draw.randint(1, 8))), draw.choice(FILLER)
        rows += [(f"{start} {first} bit {other} {last}", first) for first, other in NAMES]
    draw.shuffle(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["review", "label", *columns])
        table.writerows([*row, *more] for row, *more in zip(rows, *columns.values(), strict=True))
    return path


def write_reviews(path: Path) -> None:
    """A small file with the columns that the pages name."""
    stars = [f"{number % 30 / 6:.2f}" for number in range(120)]
    write_orders(path, 60, title=["A title"] * 120, stars=stars)
