"""Cuts one split off the others: plain, stratified by class, or by whole groups."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ..errors import UserError

log = logging.getLogger(__name__)

Indices = NDArray[np.int64]

# More names than this make a line of the log unreadable.
NAMES_SHOWN = 5


def split_off(
    split: str,
    indices: Indices,
    size: int,
    seed: int,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
    reserve: int = 1,
    groups: NDArray[Any] | None = None,
) -> tuple[Indices, Indices]:
    """The rest, and `size` of the `indices` for the split, both in random order.

    Random order matters: a limited run reads only the first batches, and data are often sorted by
    class.

    Args:
        split: "val" or "test".
        indices: positions to choose from.
        size: number to choose; more or fewer where the classes require it, which is logged.
        seed: the same seed gives the same choice.
        labels: class numbers of all samples; None to ignore the classes.
        class_names: names for the messages.
        reserve: number of samples of each class that the rest keeps, one for each split still to
            come, as far as the class has that many beside the one that is split off.
        groups: any values of all samples. If given, samples with equal values stay together, and
            size and class ratio are as close as the groups allow.

    Raises:
        UserError: the split or the rest would be empty, or the classes leave it too few samples.
    """
    if groups is not None:
        return _split_off_groups(split, indices, size, seed, labels, groups)
    if labels is None:
        _check_size(split, size, len(indices))
        return tuple(train_test_split(indices, test_size=size, random_state=seed))
    numbers, classes, counts = np.unique(labels[indices], return_inverse=True, return_counts=True)
    low = np.minimum(1, counts - 1)
    high = np.maximum(counts - reserve, low)
    wanted, size = size, int(np.clip(size, low.sum(), high.sum()))
    if size < wanted / 2:
        raise UserError(
            f"The {split} split would hold {size} samples instead of {wanted}, because most "
            "classes have a single sample: add samples, or choose another target."
        )
    _check_size(split, size, len(indices))
    _report(split, wanted, size, numbers[counts == 1], class_names)
    kept, taken = _stratified(classes, counts, size, seed, low, high)
    return indices[kept], indices[taken]


def _split_off_groups(
    split: str,
    indices: Indices,
    size: int,
    seed: int,
    labels: Indices | None,
    groups: NDArray[Any],
) -> tuple[Indices, Indices]:
    _check_size(split, size, len(indices))
    numbers = np.unique(groups[indices], return_inverse=True)[1]
    if numbers.max() == 0:
        raise UserError(
            f"All samples left for the {split} and training splits belong to one group: choose "
            "another data.group, or set it to null."
        )
    classes = None if labels is None else labels[indices]
    kept, taken = _whole_groups(numbers, classes, size, seed)
    log.info(
        "the %s split has %d of %d groups with %d samples (requested: %d)",
        split,
        len(np.unique(numbers[taken])),
        numbers.max() + 1,
        len(taken),
        size,
    )
    return indices[kept], indices[taken]


def _whole_groups(
    groups: Indices, classes: Indices | None, size: int, seed: int
) -> tuple[Indices, Indices]:
    """Positions of the rest, and of about `size` samples that make up whole groups.

    The groups are visited in random order. One is taken if that brings the number of samples of
    each class closer to its fraction of `size`.

    Args:
        groups: group numbers (N,).
        classes: class numbers (N,); None to ignore the classes.
        size: number of samples to choose, more than 0.
        seed: the same seed gives the same choice.
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
        # Every group is far too large: take the best one.
        taken[members[int(np.argmin([_change(missing, classes[m]) for m in members]))]] = True
    return random.permutation(np.flatnonzero(~taken)), random.permutation(np.flatnonzero(taken))


def _change(missing: NDArray[np.float64], classes: Indices) -> float:
    """The change of the squared distance from the requested numbers if samples are taken."""
    present, counts = np.unique(classes, return_counts=True)
    left = missing[present]
    return float(np.sum((left - counts) ** 2 - left**2))


def _stratified(
    classes: Indices, counts: Indices, size: int, seed: int, low: Indices, high: Indices
) -> tuple[Indices, Indices]:
    """Positions of the rest and of `size` samples, between `low` and `high` of each class.

    scikit-learn's stratification requires two samples of each class and may still leave a small
    class out of one side: single samples join the rest afterwards, and such classes are corrected.
    """
    several = counts[classes] > 1
    kept, taken = train_test_split(
        np.flatnonzero(several), test_size=size, random_state=seed, stratify=classes[several]
    )
    found = np.bincount(classes[taken], minlength=len(counts))
    change = _within_bounds(found, low, high, counts * size / len(classes)) - found
    if several.all() and not change.any():
        return kept, taken
    kept = np.concatenate([kept, np.flatnonzero(~several)])
    more, fewer = _first(classes[kept], change), _first(classes[taken], -change)
    random = np.random.default_rng(seed)
    return (
        random.permutation(np.concatenate([kept[~more], taken[fewer]])),
        random.permutation(np.concatenate([taken[~fewer], kept[more]])),
    )


def _within_bounds(
    found: Indices, low: Indices, high: Indices, proportional: NDArray[np.float64]
) -> Indices:
    """Samples per class, within the bounds and with the sum of `found`.

    The classes that have most relative to their `proportional` number make up for the others
    (Sainte-Laguë method), so the result is as proportional as the bounds allow.
    """
    total, counts = found.sum(), found.clip(low, high)
    while counts.sum() > total:
        counts[np.where(counts > low, (counts - 0.5) / proportional, -np.inf).argmax()] -= 1
    while counts.sum() < total:
        counts[np.where(counts < high, (counts + 0.5) / proportional, np.inf).argmin()] += 1
    return counts


def _first(classes: Indices, number: Indices) -> NDArray[np.bool_]:
    """A mask of the first `number[c]` samples of each class c; none if the number is negative."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank < number[classes]


def _check_size(split: str, size: int, count: int) -> None:
    if size < 1 or size >= count:
        raise UserError(
            f"The {split} split would hold {size} of {count} samples and leave {count - size}: "
            f"change data.{split}_fraction or add samples."
        )


def name_classes(labels: Indices, class_names: Sequence[str]) -> str:
    """The names of classes for a message, or their numbers if they have none."""
    names = [str(class_names[label]) if len(class_names) else str(label) for label in labels]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _report(
    split: str, wanted: int, size: int, single: Indices, class_names: Sequence[str]
) -> None:
    """Log what differs from a plain stratified split."""
    if len(single):
        log.warning(
            "The %s split has no sample of these classes, which have too few for every split: %s",
            split,
            name_classes(single, class_names),
        )
    if size != wanted:
        log.warning(
            "The %s split has %d samples instead of %d, so that every class with enough samples "
            "occurs in every split",
            split,
            size,
            wanted,
        )
