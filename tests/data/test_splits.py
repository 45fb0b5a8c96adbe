"""Which classes a split holds: a class that is missing from a split is never measured there."""

import logging

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ..support.template_package import Part

SPLITS = ("train", "val", "test")


def labels_of(*sizes: int) -> np.ndarray:
    """Labels in a mixed order, `sizes[c]` of each class c."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(0).permutation(labels)


def counts(labels: np.ndarray, splits: dict[str, np.ndarray]) -> dict[str, list[int]]:
    """Samples per class in each split."""
    number = labels.max() + 1
    found = {split: np.bincount(labels[splits[split]], minlength=number) for split in SPLITS}
    return {split: numbers.tolist() for split, numbers in found.items()}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # 1,000 rows: 200 for the test, 150 for validation.
        ((997, 3), {"train": [649, 1], "val": [149, 1], "test": [199, 1]}),
        # 212 rows: 42 for the test (42.4), 32 for validation (31.8).
        (
            (200, 3, 3, 3, 3),
            {"train": [134, 1, 1, 1, 1], "val": [28, 1, 1, 1, 1], "test": [38, 1, 1, 1, 1]},
        ),
        # One sample can only be learned; of two, the second is for the test.
        ((98, 1, 1), {"train": [63, 1, 1], "val": [15, 0, 0], "test": [20, 0, 0]}),
        ((98, 2), {"train": [64, 1], "val": [15, 0], "test": [19, 1]}),
        # More classes than the fractions have room for: 9 of 45 and 7 of 45 grow to one a class.
        ((3,) * 15, {"train": [1] * 15, "val": [1] * 15, "test": [1] * 15}),
    ],
)
def test_a_rare_class_is_measured_in_every_split(
    package: Part, sizes: tuple[int, ...], expected: dict[str, list[int]]
) -> None:
    labels = labels_of(*sizes)
    for seed in range(5):
        splits = package("data.splits").split_in_three(len(labels), 0.15, 0.2, seed, labels)
        assert counts(labels, splits) == expected


def test_every_class_of_three_is_in_every_split_whatever_the_sizes(package: Part) -> None:
    random = np.random.default_rng(0)
    for seed in range(60):
        sizes = random.integers(1, random.choice([5, 12, 300]), random.integers(2, 20))
        val, test = random.uniform(0.01, 0.45, 2)
        labels = labels_of(*sizes, 4)
        cut = package("data.splits").split_in_three
        splits = cut(len(labels), val, test, seed, labels)
        # No sample is lost or used twice.
        assert sorted(np.concatenate(list(splits.values()))) == list(range(len(labels)))
        found = counts(labels, splits)
        for label, size in enumerate([*sizes, 4]):
            present = [split for split in SPLITS if found[split][label]]
            assert present == [["train"], ["train", "test"], list(SPLITS)][min(size, 3) - 1]
        # The sizes are those asked for, unless they are too small or too large for the classes.
        wanted = round(len(labels) * test)
        most = sum(max(size - 2, min(size - 1, 1)) for size in [*sizes, 4])
        least = sum(size >= 2 for size in [*sizes, 4])
        assert sum(found["test"]) == min(max(wanted, least), most)
        again, other = (cut(len(labels), v, test, seed, labels) for v in (val, 0.2))
        assert all(np.array_equal(again[split], splits[split]) for split in SPLITS)
        assert np.array_equal(other["test"], splits["test"])


def test_large_classes_keep_their_ratio_beside_rare_ones(package: Part) -> None:
    # 60 rare classes need 60 of the 156 test samples (20 % of 780); 96 are left for 500 and 100.
    labels = labels_of(500, 100, *[3] * 60)
    splits = package("data.splits").split_in_three(len(labels), 0.15, 0.2, 1, labels)
    assert counts(labels, splits)["test"] == [80, 16, *[1] * 60]


def test_splits_of_ordinary_data_are_those_of_scikit_learn(package: Part) -> None:
    labels = load_digits().target
    splits = package("data.splits").split_in_three(len(labels), 0.15, 0.2, 42, labels)
    rest, test = train_test_split(np.arange(1797), test_size=359, random_state=42, stratify=labels)
    train, val = train_test_split(rest, test_size=270, random_state=42, stratify=labels[rest])
    for split, expected in zip(SPLITS, (train, val, test), strict=True):
        assert np.array_equal(splits[split], expected)


def test_a_split_is_not_sorted_by_class(package: Part) -> None:
    # A run limited to a few batches sees the first samples only.
    labels = labels_of(400, *[3] * 40)
    splits = package("data.splits").split_in_three(len(labels), 0.2, 0.2, 0, labels)
    for split in SPLITS:
        rare = np.flatnonzero(labels[splits[split]] > 0)
        assert rare.min() < len(splits[split]) / 4
        assert rare.max() > len(splits[split]) * 3 / 4


def test_the_log_names_classes_that_a_split_lacks(
    package: Part, caplog: pytest.LogCaptureFixture
) -> None:
    labels, names = labels_of(60, 1, 2), ["cat", "dodo", "auk"]
    with caplog.at_level(logging.WARNING):
        package("data.splits").split_in_three(63, 0.2, 0.2, 0, labels, names)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert "test split" in messages[0]
    assert "dodo" in messages[0]
    assert "auk" not in messages[0]
    assert "val split" in messages[1]
    assert "dodo, auk" in messages[1]


@pytest.mark.parametrize("sizes", [(1,) * 9, (2, *[1] * 30)])
def test_a_target_of_names_is_rejected(package: Part, sizes: tuple[int, ...]) -> None:
    """One class per row is a wrong choice of the target: nothing can be learned about it."""
    labels = labels_of(*sizes)
    with pytest.raises(package("errors").UserError, match="most classes have a single sample"):
        package("data.splits").split_in_three(len(labels), 0.2, 0.2, 0, labels)
