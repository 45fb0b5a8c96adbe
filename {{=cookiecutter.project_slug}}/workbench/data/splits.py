"""Training, validation and test splits, made once from a seed.

The test split is cut first, so a different `val_fraction` leaves it unchanged.

Cross-validation takes one call. A datamodule of your own needs the arguments `folds` and `fold`,
which `python train.py data.folds=5` fills in:

    def __init__(self, folds: int | None = None, fold: int | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        dataset = ...
        splits = fold_splits(len(dataset), self.hparams["folds"], self.hparams["fold"])
        self.train, self.val, self.test = (Subset(dataset, splits[name]) for name in SPLITS)
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    train_test_split,
)

from ..checks import check_integer
from ..errors import UserError

log = logging.getLogger(__name__)

Indices = NDArray[np.int64]

SPLITS = ("train", "val", "test")
# Other names of the three splits in files and folders.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
# More names than this make a line of the log unreadable.
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Samples:
    """What a split depends on.

    Attributes:
        count: number of samples.
        labels: class numbers (count,). If given, all splits have the same class ratio.
        class_names: names for the messages.
        groups: any values (count,). If given, samples with equal values stay in one split; sizes
            and class ratios are then as close as the groups allow.
        given: the val or test split, or both, if the data already have them, such as an official
            test set. All other samples are for training and the splits that are missing.
    """

    count: int
    labels: Indices | None = None
    class_names: Sequence[str] = ()
    groups: NDArray[Any] | None = None
    given: Mapping[str, Indices] = field(default_factory=dict)


def make_splits(
    samples: Samples,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    folds: int | None = None,
    fold: int | None = None,
) -> dict[str, Indices]:
    """Positions of the train, val and test samples, with or without cross-validation.

    With labels and without groups, every class of at least three samples occurs in each split. A
    class of two occurs in the training and the test split, a single sample in the training split.

    Args:
        samples: what the split depends on.
        val_fraction: fraction for validation, of all samples that are in no given split.
        test_fraction: fraction for the test, of the same.
        seed: the same seed gives the same splits.
        folds: number of folds of a cross-validation; None for a single split.
        fold: the fold to hold out, counted from 0: for the test, or for validation if the data have
            a test split. With folds, only a given test split counts; other samples are split again.

    Raises:
        UserError: a split would be empty, or the arguments do not fit together.
    """
    _warn_of_split_groups(samples)
    if folds is not None or fold is not None:
        return _make_folds(samples, val_fraction, seed, folds, fold)
    given = dict(samples.given)
    if not given and val_fraction + test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave "
            "nothing to train on: their sum must stay below 1."
        )
    train = _others(samples.count, *given.values())
    available = len(train)
    for split, fraction in (("test", test_fraction), ("val", val_fraction)):
        if split not in given:
            # One sample of each class is kept for each split still to come.
            reserve = 2 if split == "test" and "val" not in given else 1
            size = round(available * fraction)
            train, given[split] = _split_off(split, train, size, seed, samples, reserve)
    if len(samples.given) == 2:
        train = train[shuffled(len(train), seed)]
    return {"train": train, "val": given["val"], "test": given["test"]}


def split_in_three(
    count: int,
    val_fraction: float,
    test_fraction: float,
    seed: int,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
    groups: NDArray[Any] | None = None,
) -> dict[str, Indices]:
    """Positions of the train, val and test samples; see `make_splits` and `Samples`."""
    samples = Samples(count, labels, class_names, groups)
    return make_splits(samples, val_fraction, test_fraction, seed)


def fold_splits(
    count: int,
    folds: int | None,
    fold: int | None,
    val_fraction: float = 0.1,
    seed: int = 42,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
    groups: NDArray[Any] | None = None,
) -> dict[str, Indices]:
    """Positions of the train, val and test samples of one fold; see `Samples`.

    The folds are those of scikit-learn's KFold, StratifiedKFold (with labels), GroupKFold (with
    groups) or StratifiedGroupKFold (with both), shuffled with `seed`. One fold is the test split,
    so every sample is tested in exactly one of the folds. `val_fraction` of the rest is for
    validation.

    Raises:
        UserError: there is no such fold, or a split would be empty.
    """
    return _make_folds(Samples(count, labels, class_names, groups), val_fraction, seed, folds, fold)


def _make_folds(
    samples: Samples, val_fraction: float, seed: int, folds: int | None, fold: int | None
) -> dict[str, Indices]:
    if "test" in samples.given:
        if "val" in samples.given:
            log.info("data.folds splits the training and validation samples again")
        rest = _others(samples.count, samples.given["test"])
        train, val = _hold_out(rest, samples, folds, fold, seed)
        train = train[shuffled(len(train), seed)]
        return {"train": train, "val": val, "test": samples.given["test"]}
    rest, test = _hold_out(np.arange(samples.count), samples, folds, fold, seed)
    train, val = _split_off("val", rest, round(len(rest) * val_fraction), seed, samples)
    return {"train": train, "val": val, "test": test}


def _hold_out(
    indices: Indices, samples: Samples, folds: int | None, fold: int | None, seed: int
) -> tuple[Indices, Indices]:
    """The rest, in the order of `indices`, and the samples of one fold, in random order."""
    check_folds(folds, fold)
    assert folds is not None
    assert fold is not None
    classes = None if samples.labels is None else samples.labels[indices]
    members = None if samples.groups is None else samples.groups[indices]
    units = len(indices) if members is None else len(np.unique(members))
    if units < folds:
        what = "samples" if members is None else "groups"
        raise UserError(
            f"data.folds={folds} requires at least as many {what}, and there are {units}."
        )
    if classes is not None:
        _report_rare(classes, folds, samples.class_names)
    splitter = _splitter(folds, seed, classes, members)
    with warnings.catch_warnings():
        # Ours names the classes.
        warnings.filterwarnings("ignore", message="The least populated class")
        found = list(splitter.split(np.zeros(len(indices)), classes, members))
    kept, held = found[fold]
    if not len(held) or not len(kept):
        raise UserError(
            f"Fold {fold} of {folds} would hold {len(held)} of {len(indices)} samples, because "
            "the groups differ too much in size: use fewer folds."
        )
    return indices[kept], indices[held[shuffled(len(held), seed)]]


def check_folds(folds: object, fold: object) -> None:
    """Raise a UserError unless `fold` is one of `folds` folds."""
    if folds is None:
        raise UserError(f"data.fold={fold} is one of several folds: set data.folds=5 too.")
    check_integer("data.folds", folds, 2)
    assert isinstance(folds, int)
    if fold is None:
        raise UserError(
            f"data.folds={folds} requires the fold to hold out, data.fold=0 to {folds - 1}; only "
            "train.py trains all of them in one command."
        )
    check_integer("data.fold", fold, 0, folds - 1)


def _splitter(
    folds: int, seed: int, classes: Indices | None, members: NDArray[Any] | None
) -> KFold | StratifiedKFold | GroupKFold | StratifiedGroupKFold:
    if classes is None:
        kind = KFold if members is None else GroupKFold
    elif (np.bincount(classes) >= folds).any():
        kind = StratifiedKFold if members is None else StratifiedGroupKFold
    else:
        raise UserError(
            f"No class has {folds} samples, one for each of data.folds={folds}: use fewer folds, "
            "add samples, or choose another target."
        )
    return kind(folds, shuffle=True, random_state=seed)


def shuffled(count: int, seed: int) -> Indices:
    """All positions in an order fixed by the seed, for a split that is given as a whole."""
    return np.random.default_rng(seed).permutation(count)


def _others(count: int, *given: Indices) -> Indices:
    """The positions that are in no given split."""
    free = np.ones(count, bool)
    for indices in given:
        free[indices] = False
    return np.flatnonzero(free)


def _warn_of_split_groups(samples: Samples) -> None:
    """Warn if groups are spread over the splits that the data already have."""
    if samples.groups is None or not samples.given:
        return
    train = _others(samples.count, *samples.given.values())
    members = [np.unique(samples.groups[split]) for split in (train, *samples.given.values())]
    counts = np.unique(np.concatenate(members), return_counts=True)[1]
    if spread := (counts > 1).sum():
        log.warning("%d groups are in more than one of the given splits", spread)


def _report_rare(classes: Indices, folds: int, class_names: Sequence[str]) -> None:
    """Warn of classes that some folds lack."""
    numbers, counts = np.unique(classes, return_counts=True)
    if len(rare := numbers[counts < folds]):
        log.warning(
            "some folds have no sample of these classes: %s", _name_classes(rare, class_names)
        )


def _split_off(
    split: str, indices: Indices, size: int, seed: int, samples: Samples, reserve: int = 1
) -> tuple[Indices, Indices]:
    """The rest, and `size` of the `indices` for the split, both in random order.

    Random order matters: a limited run reads only the first batches, and data are often sorted by
    class.

    The size is larger or smaller where the classes require it, which is logged. The rest keeps
    `reserve` samples of each class that has that many beside the one that is split off.
    """
    if samples.groups is not None:
        return _split_off_groups(split, indices, size, seed, samples.labels, samples.groups)
    if samples.labels is None:
        _check_size(split, size, len(indices))
        return tuple(train_test_split(indices, test_size=size, random_state=seed))
    numbers, classes, counts = np.unique(
        samples.labels[indices], return_inverse=True, return_counts=True
    )
    low = np.minimum(1, counts - 1)
    high = np.maximum(counts - reserve, low)
    wanted, size = size, int(np.clip(size, low.sum(), high.sum()))
    if size < wanted / 2:
        raise UserError(
            f"The {split} split would hold {size} samples instead of {wanted}, because most "
            "classes have a single sample: add samples, or choose another target."
        )
    _check_size(split, size, len(indices))
    _report(split, wanted, size, numbers[counts == 1], samples.class_names)
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

    The groups (N,) are visited in random order. One is taken if that brings the number of samples
    of each class closer to its fraction of `size`.
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


def _name_classes(labels: Indices, class_names: Sequence[str]) -> str:
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
            _name_classes(single, class_names),
        )
    if size != wanted:
        log.warning(
            "The %s split has %d samples instead of %d, so that every class with enough samples "
            "occurs in every split",
            split,
            size,
            wanted,
        )
