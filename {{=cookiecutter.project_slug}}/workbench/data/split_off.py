"""Cuts one split off the others: plain, stratified by class, or by whole groups."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from ..errors import UserError
from .group_split import Indices, split_groups

log = logging.getLogger(__name__)

# More names than this make a line of the log unreadable.
NAMES_SHOWN = 5


def split_off(
    part: str,
    indices: Indices,
    size: int,
    seed: int,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
    reserve: int = 1,
    groups: NDArray[Any] | None = None,
) -> tuple[Indices, Indices]:
    """The rest, and `size` of the `indices` for the split called `part`, both in random order.

    Random order matters: a limited run reads only the first batches, and data is often sorted by
    class.

    Args:
        part: "val" or "test".
        indices: positions to choose from.
        size: how many to choose; more or fewer where the classes require it, which is logged.
        seed: the same seed gives the same choice.
        labels: class numbers of all samples; None to ignore the classes.
        class_names: names for the messages.
        reserve: how many samples of each class the rest keeps, one for each split still to come,
            as far as the class has that many beside the one that is split off.
        groups: any values, of all samples. If given, samples with equal values stay together, and
            size and class ratio are as close as the groups allow.

    Raises:
        UserError: the split or the rest would be empty, or the classes leave it too few samples.
    """
    if groups is not None:
        return _split_off_groups(part, indices, size, seed, labels, groups)
    if labels is None:
        _check_size(part, size, len(indices))
        return tuple(train_test_split(indices, test_size=size, random_state=seed))
    numbers, classes, counts = np.unique(labels[indices], return_inverse=True, return_counts=True)
    low = np.minimum(1, counts - 1)
    high = np.maximum(counts - reserve, low)
    wanted, size = size, int(np.clip(size, low.sum(), high.sum()))
    if size < wanted / 2:
        raise UserError(
            f"The {part} split would hold {size} samples instead of {wanted}, because most classes "
            "have a single sample: add samples, or choose another target."
        )
    _check_size(part, size, len(indices))
    _report(part, wanted, size, numbers[counts == 1], class_names)
    kept, taken = _stratified(classes, counts, size, seed, low, high)
    return indices[kept], indices[taken]


def _split_off_groups(
    part: str,
    indices: Indices,
    size: int,
    seed: int,
    labels: Indices | None,
    groups: NDArray[Any],
) -> tuple[Indices, Indices]:
    _check_size(part, size, len(indices))
    numbers = np.unique(groups[indices], return_inverse=True)[1]
    if numbers.max() == 0:
        raise UserError(
            f"All samples left for the {part} and training splits belong to one group: choose "
            "another data.group, or leave it out."
        )
    classes = None if labels is None else labels[indices]
    kept, taken = split_groups(numbers, classes, size, seed)
    log.info(
        "the %s split has %d of %d groups with %d samples (%d wanted)",
        part,
        len(np.unique(numbers[taken])),
        numbers.max() + 1,
        len(taken),
        size,
    )
    return indices[kept], indices[taken]


def _stratified(
    classes: Indices, counts: Indices, size: int, seed: int, low: Indices, high: Indices
) -> tuple[Indices, Indices]:
    """Positions of the rest and of `size` samples, between `low` and `high` of each class.

    scikit-learn stratifies, but needs two samples of each class and may still leave a small class
    out of one side: single samples join the rest afterwards, and such a class is corrected.
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
    found: Indices, low: Indices, high: Indices, share: NDArray[np.float64]
) -> Indices:
    """Samples per class, within the bounds and with the sum of `found`.

    The classes that have most of their proportional share give what others lack (the rule of
    Sainte-Laguë), so that the result is as proportional as the bounds allow.
    """
    total, counts = found.sum(), found.clip(low, high)
    while counts.sum() > total:
        counts[np.where(counts > low, (counts - 0.5) / share, -np.inf).argmax()] -= 1
    while counts.sum() < total:
        counts[np.where(counts < high, (counts + 0.5) / share, np.inf).argmin()] += 1
    return counts


def _first(classes: Indices, number: Indices) -> NDArray[np.bool_]:
    """A mask of the first `number[c]` samples of each class c; none if the number is negative."""
    order = np.argsort(classes, kind="stable")
    ordered = classes[order]
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return rank < number[classes]


def _check_size(part: str, size: int, count: int) -> None:
    if size < 1 or size >= count:
        raise UserError(
            f"The {part} split would hold {size} of {count} samples and leave {count - size}: "
            f"change data.{part}_fraction or add samples."
        )


def name_classes(labels: Indices, class_names: Sequence[str]) -> str:
    """The names of classes for a message, their numbers where they have none."""
    names = [str(class_names[label]) if len(class_names) else str(label) for label in labels]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(names[:NAMES_SHOWN]) + more


def _report(part: str, wanted: int, size: int, single: Indices, class_names: Sequence[str]) -> None:
    """Log what differs from a plain stratified split."""
    if len(single):
        log.warning(
            "The %s split has no sample of these classes, which have too few for every split: %s",
            part,
            name_classes(single, class_names),
        )
    if size != wanted:
        log.warning(
            "The %s split has %d samples instead of %d, so that every class with enough samples "
            "occurs in every split",
            part,
            size,
            wanted,
        )
