"""Splits that keep groups whole: all images of a patient, all rows of a customer."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def split_groups(
    groups: Indices, classes: Indices | None, size: int, seed: int
) -> tuple[Indices, Indices]:
    """Positions of the rest, and of about `size` samples that make up whole groups.

    The groups are visited in random order. One is taken if that brings the number of samples of
    each class closer to its share of `size`.

    Args:
        groups: group numbers (N,).
        classes: class numbers (N,); None to ignore the classes.
        size: wanted number of samples, more than 0.
        seed: the same seed gives the same choice.

    Returns:
        Both in random order. The rest is empty if there is a single group.
    """
    random = np.random.default_rng(seed)
    if classes is None:
        classes = np.zeros(len(groups), np.int64)
    missing = np.bincount(classes) * size / len(classes)
    order = np.argsort(groups, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    taken = np.zeros(len(groups), bool)
    for number in random.permutation(len(members)):
        change = _change(missing, classes[members[number]])
        if change < 0:
            taken[members[number]] = True
            np.subtract.at(missing, classes[members[number]], 1)
    if not taken.any():
        # Every group is far too large: one has to do.
        taken[members[int(np.argmin([_change(missing, classes[m]) for m in members]))]] = True
    return random.permutation(np.flatnonzero(~taken)), random.permutation(np.flatnonzero(taken))


def _change(missing: NDArray[np.float64], classes: Indices) -> float:
    """By how much the squared distance from the wanted numbers changes with these samples."""
    present, counts = np.unique(classes, return_counts=True)
    left = missing[present]
    return float(np.sum((left - counts) ** 2 - left**2))
