"""Training, validation and test splits, made once from a seed.

The test split is cut off first, so a different `val_fraction` leaves it unchanged.

Cross-validation takes one call. A datamodule of your own needs the arguments `folds` and `fold`,
which `python train.py data.folds=5` fills in:

    def __init__(self, folds: int | None = None, fold: int | None = None) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)

    def setup(self, stage: str | None = None) -> None:
        dataset = ...
        splits = fold_splits(len(dataset), self.hparams["folds"], self.hparams["fold"])
        self.train, self.val, self.test = (Subset(dataset, splits[name]) for name in SPLITS)

The functions below share these arguments:

- count: number of samples.
- seed: the same seed gives the same splits.
- labels: class numbers of all samples (count,). If given, all splits have the same class ratio.
- class_names: names for the messages.
- groups: any values of all samples (count,). If given, samples with equal values stay in one split;
  sizes and class ratios are then as close as the groups allow.
- folds: number of folds of a cross-validation.
- fold: the fold to hold out, counted from 0.
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
)

from ..checks import check_integer
from ..errors import UserError
from .split_off import Indices, name_classes, split_off

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Samples:
    """What a split depends on; see above for the first four.

    Attributes:
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

    Args:
        samples: what the split depends on.
        val_fraction: fraction for validation, of all samples that are in no given split.
        test_fraction: fraction for the test, of the same.
        seed: see above.
        folds: None for a single split.
        fold: held out for the test, or for validation if the data have a test split. With folds,
            only a given test split counts; other samples are split again.

    Raises:
        UserError: a split would be empty, or the arguments do not fit together.
    """
    given = dict(samples.given)
    labels, names, groups = samples.labels, samples.class_names, samples.groups
    _warn_of_split_groups(samples)
    if folds is not None or fold is not None:
        if "test" not in given:
            return fold_splits(
                samples.count, folds, fold, val_fraction, seed, labels, names, groups
            )
        if "val" in given:
            log.info("data.folds splits the training and validation samples again")
        rest = _others(samples.count, given["test"])
        train, val = hold_out(rest, folds, fold, seed, labels, names, groups)
        train = train[shuffled(len(train), seed)]
        return {"train": train, "val": val, "test": given["test"]}
    if not given:
        count = samples.count
        return split_in_three(count, val_fraction, test_fraction, seed, labels, names, groups)
    train = _others(samples.count, *given.values())
    available = len(train)
    for split, fraction in (("val", val_fraction), ("test", test_fraction)):
        if split not in given:
            size = round(available * fraction)
            train, given[split] = split_off(split, train, size, seed, labels, names, groups=groups)
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
    """Positions of the train, val and test samples; the fractions are of all samples.

    With labels and without groups, every class of at least three samples occurs in each split. A
    class of two occurs in the training and the test split, a single sample in the training split.

    Raises:
        UserError: a split would be empty, or most classes have a single sample.
    """
    if val_fraction + test_fraction >= 1:
        raise UserError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave "
            "nothing to train on: their sum must stay below 1."
        )
    everything = np.arange(count)
    rest, test = split_off(
        "test", everything, round(count * test_fraction), seed, labels, class_names, 2, groups
    )
    size = round(count * val_fraction)
    train, val = split_off("val", rest, size, seed, labels, class_names, groups=groups)
    return {"train": train, "val": val, "test": test}


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
    """Positions of the train, val and test samples of one fold of a cross-validation.

    The folds are those of scikit-learn's KFold, StratifiedKFold (with labels), GroupKFold (with
    groups) or StratifiedGroupKFold (with both), shuffled with `seed`. One fold is the test split,
    so every sample is tested in exactly one of the folds. `val_fraction` of the rest is for
    validation.

    Raises:
        UserError: there is no such fold, or a split would be empty.
    """
    rest, test = hold_out(np.arange(count), folds, fold, seed, labels, class_names, groups)
    size = round(len(rest) * val_fraction)
    train, val = split_off("val", rest, size, seed, labels, class_names, groups=groups)
    return {"train": train, "val": val, "test": test}


def hold_out(
    indices: Indices,
    folds: int | None,
    fold: int | None,
    seed: int,
    labels: Indices | None = None,
    class_names: Sequence[str] = (),
    groups: NDArray[Any] | None = None,
) -> tuple[Indices, Indices]:
    """The rest, in the order of `indices`, and the samples of one fold, in random order.

    Raises:
        UserError: there is no such fold, or there are fewer samples or groups than folds.
    """
    check_folds(folds, fold)
    assert folds is not None
    assert fold is not None
    classes = None if labels is None else labels[indices]
    members = None if groups is None else groups[indices]
    units = len(indices) if members is None else len(np.unique(members))
    if units < folds:
        what = "samples" if members is None else "groups"
        raise UserError(
            f"data.folds={folds} requires at least as many {what}, and there are {units}."
        )
    if classes is not None:
        _report_rare(classes, folds, class_names)
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
            "some folds have no sample of these classes: %s", name_classes(rare, class_names)
        )
