"""Train, validation and test parts, made once from a seed.

The test part is cut off first, so a different `val_fraction` leaves the test part as it was.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ..errors import UserError

Indices = NDArray[np.int64]


def split_in_three(
    count: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
) -> dict[str, Indices]:
    """Positions of the train, val and test samples among `count` samples.

    Args:
        count: number of samples.
        val_fraction: share of all samples for validation.
        test_fraction: share of all samples for the test.
        seed: the same seed gives the same parts.
        labels: class numbers (count,); when given, every part holds the classes in the same ratio.
        class_names: names for the error messages.

    Raises:
        UserError: a part would be empty, or a class has too few samples for three parts.
    """
    if val_fraction + test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave "
            "nothing to train on: their sum must stay below 1."
        )
    everything = np.arange(count)
    rest, test = split_off(
        "test", everything, round(count * test_fraction), seed, labels, class_names
    )
    train, val = split_off("val", rest, round(count * val_fraction), seed, labels, class_names)
    return {"train": train, "val": val, "test": test}


def split_off(
    part: str,
    indices: Indices,
    size: int,
    seed: int,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
) -> tuple[Indices, Indices]:
    """The rest, and `size` of the `indices` for the part called `part`, both in random order.

    Random order matters: a limited run reads only the first batches, and data often lie sorted by
    class.

    Raises:
        UserError: the part or the rest would be empty or too small to hold every class.
    """
    rest = len(indices) - size
    if size < 1 or rest < 1:
        raise UserError(
            f"The {part} part would hold {size} of {len(indices)} samples and leave {rest}: "
            f"change data.{part}_fraction or add samples."
        )
    if labels is None:
        return tuple(train_test_split(indices, test_size=size, random_state=seed))
    labels = labels[indices]
    _check_classes(part, labels, size, class_names)
    kept, taken = train_test_split(indices, test_size=size, random_state=seed, stratify=labels)
    return kept, taken


def shuffled(count: int, seed: int) -> Indices:
    """All positions in an order that the seed fixes, for a part that is given as a whole."""
    return np.random.default_rng(seed).permutation(count)


def _check_classes(part: str, labels: Indices, size: int, class_names: Sequence[str]) -> None:
    numbers, counts = np.unique(labels, return_counts=True)
    smallest = numbers[counts.argmin()]
    name = class_names[smallest] if len(class_names) else str(smallest)
    # One for each part that is still to come: train, val and, at first, test.
    needed = 3 if part == "test" else 2
    if counts.min() < needed:
        raise UserError(
            f"Class '{name}' has too few samples ({counts.min()}) to appear in every part: "
            "add samples of it or leave the class out."
        )
    if min(size, len(labels) - size) < len(numbers):
        raise UserError(
            f"The {part} part would hold {size} of {len(labels)} samples, so not every part could "
            f"have all {len(numbers)} classes: change data.{part}_fraction or add samples."
        )
