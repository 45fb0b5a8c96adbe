"""Splits of folds: what a table of results would get wrong if folds overlapped or were unequal."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)

from ..support.pictures import write_mnist
from ..support.template_package import Part

PARTS = ("train", "val", "test")
FOLDS = 5
COUNT = 203


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Three classes: about 60, 30 and 10 %."""
    return np.random.default_rng(0).choice(3, COUNT, p=[0.6, 0.3, 0.1])


@pytest.fixture(scope="module")
def groups() -> np.ndarray:
    """40 patients of different sizes."""
    return np.random.default_rng(1).integers(0, 40, COUNT)


def folds_of(package: Part, count: int = COUNT, **options: Any) -> list[dict[str, np.ndarray]]:
    """The splits of all folds."""
    split = package("data.splits").fold_splits
    return [split(count, FOLDS, fold, 0.15, 7, **options) for fold in range(FOLDS)]


# Which samples are in which split


@pytest.mark.parametrize("with_labels", [False, True], ids=["plain", "stratified"])
@pytest.mark.parametrize("with_groups", [False, True], ids=["single", "grouped"])
def test_every_sample_is_tested_once_and_never_trained_on_in_that_fold(
    package: Part, labels: np.ndarray, groups: np.ndarray, with_labels: bool, with_groups: bool
) -> None:
    options: dict[str, Any] = {
        "labels": labels if with_labels else None,
        "groups": groups if with_groups else None,
    }
    found = folds_of(package, **options)
    assert sorted(np.concatenate([parts["test"] for parts in found])) == list(range(COUNT))
    for parts in found:
        assert sorted(np.concatenate(list(parts.values()))) == list(range(COUNT))
        # 15 % of the other four fifths.
        wanted = 0.15 * (COUNT - len(parts["test"]))
        assert len(parts["val"]) == pytest.approx(wanted, abs=5 if with_groups else 0.5)
        if with_groups:
            owners = [set(groups[parts[part]]) for part in PARTS]
            assert not owners[0] & owners[1]
            assert not (owners[0] | owners[1]) & owners[2]


def test_folds_are_those_of_scikit_learn(
    package: Part, labels: np.ndarray, groups: np.ndarray
) -> None:
    """Results can be compared with those of a paper that used them."""
    cases: list[tuple[Any, dict[str, Any]]] = [
        (KFold, {}),
        (StratifiedKFold, {"labels": labels}),
        (GroupKFold, {"groups": groups}),
        (StratifiedGroupKFold, {"labels": labels, "groups": groups}),
    ]
    for splitter, options in cases:
        expected = splitter(FOLDS, shuffle=True, random_state=7).split(
            np.zeros(COUNT), options.get("labels"), options.get("groups")
        )
        found = folds_of(package, **options)
        for parts, (rest, test) in zip(found, expected, strict=True):
            assert sorted(parts["test"]) == list(test)
            assert sorted([*parts["train"], *parts["val"]]) == list(rest)


def test_classes_have_the_same_ratio_in_every_split(package: Part, labels: np.ndarray) -> None:
    shares = np.bincount(labels) / COUNT
    for parts in folds_of(package, labels=labels):
        for part in PARTS:
            counts = np.bincount(labels[parts[part]], minlength=3)
            # Folds first, validation afterwards: each may round once.
            assert np.abs(counts - shares * len(parts[part])).max() <= 2


def test_rare_class_is_reported_and_lost_to_no_fold(
    package: Part, caplog: pytest.LogCaptureFixture
) -> None:
    labels = np.array([0] * 60 + [1] * 40 + [2] * 3)
    found = folds_of(package, 103, labels=labels, class_names=["cat", "dog", "auk"])
    assert "some folds have no sample of these classes: auk" in caplog.text
    assert sum((labels[parts["test"]] == 2).sum() for parts in found) == 3


def test_groups_stay_whole_without_folds_too(package: Part, groups: np.ndarray) -> None:
    labels = groups % 2  # each patient has one diagnosis
    split = package("data.splits").split_in_three
    for seed in range(20):
        for classes in (None, labels):
            parts = split(COUNT, 0.2, 0.25, seed, classes, groups=groups)
            assert sorted(np.concatenate(list(parts.values()))) == list(range(COUNT))
            owners = [set(groups[parts[part]]) for part in PARTS]
            assert sum(map(len, owners)) == len(set(groups))
            # A patient has five samples on average and eleven at most.
            sizes = [len(parts["val"]), len(parts["test"])]
            assert sizes == pytest.approx([0.2 * COUNT, 0.25 * COUNT], abs=8)
            if classes is not None:
                ratio = [labels[parts[part]].mean() for part in PARTS]
                assert ratio == pytest.approx([labels.mean()] * 3, abs=0.1)


def test_official_test_set_stays_the_test(package: Part, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST" / "raw", train=100, test=30)
    validated: list[torch.Tensor] = []
    tests = []
    for fold in range(4):
        module = package("data").MNISTDataModule(tmp_path, folds=4, fold=fold)
        module.setup()
        assert module.num_samples == {"train": 75, "val": 25, "test": 30}
        validated.append(module.datasets["val"].x)
        tests.append(module.datasets["test"].x)
    assert all(torch.equal(test, tests[0]) for test in tests)
    # All training images are validated once; the same image twice would have the same sum.
    sums = torch.cat(validated).double().flatten(1).sum(1)
    whole = package("data").MNISTDataModule(tmp_path)
    whole.setup()
    parts = [whole.datasets[part].x for part in ("train", "val")]
    expected = torch.cat(parts).double().flatten(1).sum(1)
    assert torch.equal(sums.sort()[0], expected.sort()[0])


# Tables and folders


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """120 visits of 20 patients, who are in the wrong order as texts, and a split in words."""
    random = np.random.default_rng(3)
    rows = ["patient,age,outcome,part"]
    words = ["train", "Train", "training", "val", "TEST"]
    for row in range(120):
        patient = random.integers(1, 21)
        rows.append(f"{patient},{random.normal():.4f},{'ab'[row % 2]},{words[row % 5]}")
    (tmp_path / "visits.csv").write_text("\n".join(rows))
    return tmp_path / "visits.csv"


def ages(module: Any, part: str) -> list[str]:
    """The ages of a split as they are written in the file."""
    (column,) = module.preprocessing["columns"]
    x = module.datasets[part].x[:, 0].double().numpy() * column["std"] + column["mean"]
    return [f"{value:.4f}" for value in x]


def test_patients_of_a_table_are_never_split(package: Part, table: Path) -> None:
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    patient_of = {row[1]: int(row[0]) for row in rows}
    patients = np.array([int(row[0]) for row in rows])
    labels = np.array(["ab".index(row[2]) for row in rows])
    splitter = StratifiedGroupKFold(3, shuffle=True, random_state=42)
    expected = [set(patients[test]) for _, test in splitter.split(rows, labels, patients)]
    for fold in range(3):
        options = {"group": "patient", "drop": "part", "folds": 3, "fold": fold}
        module = package("data").CSVDataModule(table, "outcome", **options)
        module.setup()
        # The model sees the age alone.
        assert module.preprocessing["features"] == ["age"]
        owners = [{patient_of[age] for age in ages(module, part)} for part in PARTS]
        assert owners[2] == expected[fold]
        assert len(owners[0]) + len(owners[1]) + len(owners[2]) == 20


def test_column_of_a_table_decides_the_split(package: Part, table: Path) -> None:
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    module = package("data").CSVDataModule(
        table, "outcome", drop=["patient"], split_column="part", val_fraction=0.5
    )
    module.setup()
    assert module.preprocessing["features"] == ["age"]
    for part, words in (
        ("train", {"train", "Train", "training"}),
        ("val", {"val"}),
        ("test", {"TEST"}),
    ):
        assert sorted(ages(module, part)) == sorted(row[1] for row in rows if row[3] in words)
    # Without validation rows, a fraction of the training rows is cut off.
    table.write_text(table.read_text().replace("val", "train"))
    module = package("data").CSVDataModule(
        table, "outcome", drop=["patient"], split_column="part", val_fraction=0.25
    )
    module.setup()
    assert module.num_samples == {"train": 72, "val": 24, "test": 24}


def write_images(root: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), number).save(root / name)


@pytest.mark.parametrize(
    ("group", "pattern"), [("folder", "p{}/{}.png"), ("prefix", "p{}_scan-{}.png")]
)
def test_images_of_a_patient_are_never_split(
    package: Part, tmp_path: Path, group: str, pattern: str
) -> None:
    names = [
        f"{kind}/{pattern.format(patient, number)}"
        for kind in ("healthy", "ill")
        for patient in range(6)
        for number in range(4)
    ]
    write_images(tmp_path, names)
    tested = []
    for fold in range(3):
        module = package("data").ImageFolderDataModule(
            tmp_path, height=4, width=4, shift=0, group=group, folds=3, fold=fold, num_workers=0
        )
        module.setup()
        paths = {part: module.datasets[part].paths for part in PARTS}
        owners = []
        for part in PARTS:
            inside = [path.relative_to(tmp_path).parts[1] for path in paths[part]]
            owners.append({name.partition("_")[0] for name in inside})
        # A patient may have images of both classes, and is in one split all the same.
        assert sorted(owners[0] | owners[1] | owners[2]) == [f"p{i}" for i in range(6)]
        assert sum(map(len, owners)) == 6
        tested += paths["test"]
    assert sorted(tested) == sorted(tmp_path / name for name in names)


# What the datamodules accept


class Pairs(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """An ordinary dataset: one sample at a time."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((3,), float(index)), index


class Dictionaries(Pairs):
    """Samples that no fixed pair of names describes."""

    def __getitem__(self, index: int) -> Any:
        return {"image": torch.full((3,), float(index)), "name": f"number {index}"}


class Stream(torch.utils.data.IterableDataset):  # type: ignore[type-arg]
    """Samples without a length."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_dataset_of_samples_is_collated_as_by_pytorch(package: Part, batch_size: int) -> None:
    """Two samples of two parts each look like a batch of inputs and targets."""
    make_loader = package("data.batches").make_loader
    for dataset in (Pairs(), Dictionaries(), torch.utils.data.Subset(Pairs(), [5, 0, 3])):
        expected = torch.utils.data.DataLoader(dataset, batch_size)
        for found, wanted in zip(make_loader(dataset, batch_size), expected, strict=True):
            assert repr(found) == repr(wanted)


def test_subset_of_data_in_memory_is_fetched_by_the_batch(package: Part) -> None:
    x, y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
    dataset = package("data.batches").BatchDataset(x, y)
    subset = torch.utils.data.Subset(dataset, [4, 1, 2])
    (found_x, found_y), *_ = package("data.batches").make_loader(subset, 2)
    assert torch.equal(found_x, x[[4, 1]])
    assert torch.equal(found_y, y[[4, 1]])


def test_own_dataset_needs_no_facts(package: Part) -> None:
    """Whoever overrides `load` alone has a datamodule for any LightningModule."""

    class Own(package("data.base").BaseDataModule):  # type: ignore[misc]
        def __init__(self, batch_size: int = 2, split_seed: int = 0) -> None:
            super().__init__()
            self.save_hyperparameters(logger=False)

        def load(self) -> Any:
            return {"train": Dictionaries(), "val": Pairs(), "test": Stream()}

    module = Own()
    module.setup()
    assert module.describe() == {}
    assert module.num_samples == {"train": 6, "val": 6}
    assert module.fingerprints() == {"train": {"samples": 6}, "val": {"samples": 6}, "test": {}}
    module.datasets["train"] = Stream()
    assert [batch.tolist() for batch in module.train_dataloader()] == [[0, 1], [2, 3], [4]]
    assert [batch.tolist() for batch in module.test_dataloader()] == [[0, 1], [2, 3], [4]]


def test_split_and_collation_are_changed_by_one_method_each(package: Part) -> None:
    class ByDate(package("data").DiabetesDataModule):  # type: ignore[misc]
        def split(self, samples: Any) -> Any:
            return {"train": np.arange(300), "val": np.arange(300, 442)}

    class Named(package("data").DigitsDataModule):  # type: ignore[misc]
        @staticmethod
        def collate_fn(samples: list[Any]) -> Any:
            return [name for _, name in samples]

        def load(self) -> Any:
            return dict.fromkeys(PARTS, Pairs())

    module = ByDate()
    module.setup()
    assert module.num_samples == {"train": 300, "val": 142}
    assert module.test_dataloader() == []
    module = Named(batch_size=4)
    module.setup()
    assert list(module.val_dataloader()) == [[0, 1, 2, 3], [4, 5]]


def test_example_for_other_datamodules_works(package: Part) -> None:
    """It is copied from the head of the module."""
    splits = package("data.splits")
    lines = [line[4:] for line in str(splits.__doc__).splitlines() if line.startswith("    ")]
    code = "class Own(LightningDataModule):\n" + "\n".join(f"    {line}" for line in lines)
    names = vars(splits) | {
        "LightningDataModule": LightningDataModule,
        "Subset": torch.utils.data.Subset,
        "numbers": torch.utils.data.TensorDataset(torch.arange(30)),
    }
    exec(code.replace("dataset = ...", "dataset = numbers"), names)
    tested = []
    for fold in range(3):
        module = names["Own"](folds=3, fold=fold)
        module.setup()
        tested += [int(number) for (number,) in module.test]
        assert (len(module.train), len(module.val)) == (18, 2)
    assert sorted(tested) == list(range(30))


def test_mistakes_are_told_in_one_sentence(package: Part, table: Path, tmp_path: Path) -> None:
    data = package("data")
    write_images(tmp_path / "flat", [f"{c}/p1_{n}.png" for c in ("cat", "dog") for n in range(8)])
    empty = tmp_path / "empty.csv"
    empty.write_text("p,x,y\n1,1,a\n,2,b\n2,3,a\n2,4,b\n")
    for module, message in (
        (data.DigitsDataModule(folds=5), "data.folds=5 requires the fold to hold out"),
        (data.DigitsDataModule(fold=1), "data.fold=1 is one of several folds: set data.folds=5"),
        (data.DigitsDataModule(folds=5, fold=5), "data.fold must be an integer from 0 to 4"),
        (data.DigitsDataModule(folds=1, fold=0), "data.folds must be an integer of at least 2"),
        (data.DiabetesDataModule(folds=443, fold=0), "as many samples, and there are 442"),
        (data.CSVDataModule(table, "outcome", group="patient", folds=21, fold=0), "there are 20"),
        (data.CSVDataModule(table, "outcome", group="patien"), "did you mean 'patient'"),
        (data.CSVDataModule(table, "outcome", split_column="age"), "each cell is train, val or"),
        (data.CSVDataModule(empty, "y", group="p"), "'p' of .* is empty on line 3"),
        (data.ImageFolderDataModule(tmp_path / "flat", group="folder"), "is directly in"),
        (data.ImageFolderDataModule(tmp_path / "flat", group="prefix"), "belong to one group"),
        (data.ImageFolderDataModule(tmp_path / "flat", group="name"), "data.group must be folder"),
    ):
        with pytest.raises(package("errors").UserError, match=message) as told:
            module.setup()
        assert "\n" not in str(told.value)
