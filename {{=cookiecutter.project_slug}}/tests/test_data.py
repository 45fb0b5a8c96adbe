"""How data are split, scaled and batched, and how bad inputs are reported."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_diabetes

from workbench.data.images import random_flip, random_shift
from workbench.data.inputs import read_inputs
from workbench.data.splits import split_in_three
from workbench.errors import UserError

Package = Callable[[str], ModuleType]
SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def data(package: Package) -> ModuleType:
    return package("data")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 20 images, dark and bright, of different sizes."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name, low in (("bright", 128), ("dark", 0)):
        (root / name).mkdir()
        for number in range(20):
            pixels = random.integers(low, low + 128, (10 + number, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 rows: numbers and texts with gaps, numbers without gaps, a price to predict."""
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("table") / "flats.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["area", "district", "floor", "price"])
        for number in range(60):
            area = "" if number % 7 == 0 else f"{random.uniform(20, 120):.1f}"
            district = ["north", "south", "", "old town, east"][number % 4]
            writer.writerow([area, district, number % 5, f"{random.uniform(1, 9):.2f}"])
    return path


@pytest.fixture
def modules(data: ModuleType, images: Path, table: Path) -> Iterator[list[Any]]:
    """One datamodule of each kind, set up."""
    made = [
        data.DigitsDataModule(),
        data.DiabetesDataModule(),
        data.ImageFolderDataModule(images, height=12, width=10, batch_size=8, num_workers=0),
        data.CSVDataModule(table, target="price", batch_size=8),
    ]
    for module in made:
        module.prepare_data()
        module.setup()
    yield made


def whole(module: Any, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """All samples of a split in one batch."""
    dataset = module.datasets[split]
    return dataset.__getitems__(list(range(len(dataset))))


def test_no_sample_is_in_two_splits_or_lost() -> None:
    labels = np.arange(200) % 4
    splits = split_in_three(200, val_fraction=0.15, test_fraction=0.2, seed=1, labels=labels)
    assert [len(splits[split]) for split in SPLITS] == [130, 30, 40]
    assert sorted(np.concatenate([splits[split] for split in SPLITS])) == list(range(200))
    # Every split has the classes in the same ratio.
    for split in SPLITS:
        counts = np.bincount(labels[splits[split]])
        assert counts.max() - counts.min() <= 1


def test_only_the_split_seed_determines_the_splits() -> None:
    first, again, other = (split_in_three(100, 0.2, 0.2, seed) for seed in (1, 1, 2))
    for split in SPLITS:
        assert np.array_equal(first[split], again[split])
        assert not np.array_equal(first[split], other[split])
    # The test split does not depend on the size of the validation split.
    assert np.array_equal(first["test"], split_in_three(100, 0.3, 0.2, 1)["test"])


def test_batches_have_the_declared_shapes_and_types(modules: list[Any]) -> None:
    for module in modules:
        facts = module.describe()
        for loader in (module.train_dataloader, module.val_dataloader, module.test_dataloader):
            x, y = next(iter(loader()))
            assert x.shape == (len(y), *facts["input_shape"])
            assert x.dtype == torch.float32
            assert y.dtype == (torch.int64 if module.task == "classification" else torch.float32)
        if module.task == "classification":
            assert len(facts["class_names"]) == facts["num_classes"]
            assert set(whole(module, "train")[1].tolist()) == set(range(facts["num_classes"]))


def test_a_checkpoint_can_hold_the_facts_about_the_data(modules: list[Any], tmp_path: Path) -> None:
    for module in modules:
        facts = {"model": module.describe(), "data": dict(module.hparams)}
        assert json.loads(json.dumps(facts)) == facts  # plain values only
        torch.save(facts, tmp_path / "facts.ckpt")
        assert torch.load(tmp_path / "facts.ckpt", weights_only=True) == facts


def test_statistics_are_those_of_the_training_split_only(modules: list[Any]) -> None:
    digits, diabetes, folder, _ = modules
    for module, axes in ((digits, (0, 2, 3)), (diabetes, (0,)), (folder, (0, 2, 3))):
        x, _ = whole(module, "train")
        assert torch.allclose(x.mean(axes), torch.zeros(x.shape[1]), atol=1e-4)
        assert torch.allclose(x.std(axes, correction=0), torch.ones(x.shape[1]), atol=1e-4)
        everything = torch.cat([whole(module, split)[0] for split in SPLITS])
        assert not torch.allclose(everything.mean(axes), torch.zeros(x.shape[1]), atol=1e-4)
    _, y = whole(diabetes, "train")
    assert y.mean().item() == pytest.approx(0, abs=1e-5)
    assert y.std(correction=0).item() == pytest.approx(1, rel=1e-5)
    y = torch.cat([whole(diabetes, split)[1] for split in SPLITS]).double()
    values = y * diabetes.target_std + diabetes.target_mean
    assert sorted(values.round().tolist()) == sorted(load_diabetes().target.tolist())


def test_an_epoch_holds_every_training_sample_once_in_a_new_order(modules: list[Any]) -> None:
    for module in modules:
        x, _ = whole(module, "train")
        loader = module.train_dataloader()
        first, second = (torch.cat([x for x, _ in loader]) for _ in range(2))
        assert not torch.equal(first, second)
        for epoch in (first, second):
            assert torch.equal(epoch.flatten(1).sum(1).sort()[0], x.flatten(1).sum(1).sort()[0])


def test_a_last_batch_of_one_sample_is_omitted(data: ModuleType) -> None:
    # Batch normalization fails on it, in the last step of the first epoch.
    module = data.DigitsDataModule(batch_size=1167)
    module.setup()
    assert [len(y) for _, y in module.train_dataloader()] == [1167]
    assert module.num_samples["train"] == 1168


def test_only_training_batches_are_augmented(data: ModuleType) -> None:
    module = data.DigitsDataModule(shift=1)
    module.setup()
    batch = next(iter(module.train_dataloader()))
    for training, overfit, changed in ((True, 0, True), (False, 0, False), (True, 1, False)):
        module.trainer = SimpleNamespace(training=training, overfit_batches=overfit)
        x, y = module.on_after_batch_transfer(batch, 0)
        assert torch.equal(x, batch[0]) is not changed
        assert torch.equal(y, batch[1])


def test_a_shift_moves_an_image_and_fills_with_black() -> None:
    x = torch.zeros(400, 2, 5, 5)
    x[:, :, 2, 2] = 1
    moved = random_shift(x, 1, fill=torch.tensor([-1.0, -2.0]))
    # Both channels of an image move together, to nine places, filled with -1 and -2.
    places = moved[:, 0].flatten(1).argmax(1)
    assert torch.equal(places, moved[:, 1].flatten(1).argmax(1))
    assert sorted(set(places.tolist())) == [6, 7, 8, 11, 12, 13, 16, 17, 18]
    assert moved[:, 0].min() == -1
    assert moved[:, 1].min() == -2
    assert torch.equal(moved[places == 12], x[places == 12])


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    x = torch.arange(6.0).reshape(1, 1, 2, 3).repeat(1000, 1, 1, 1)
    flipped = random_flip(x)
    mirrored = (flipped == x.flip(-1)).all((1, 2, 3))
    assert 400 < mirrored.sum() < 600
    assert torch.equal(flipped[~mirrored], x[~mirrored])


def test_a_table_is_encoded_as_the_docstring_says(data: ModuleType, table: Path) -> None:
    module = data.CSVDataModule(table, target="price")
    module.setup()
    assert module.task == "regression"
    columns = {column["name"]: column for column in module.preprocessing["columns"]}
    assert module.preprocessing["features"] == [
        "area", "area missing", "district=north", "district=old town, east", "district=south",
        "district=?", "floor",
    ]  # fmt: skip
    x, _ = whole(module, "train")
    area, missing = x[:, 0], x[:, 1].bool()
    median = (columns["area"]["median"] - columns["area"]["mean"]) / columns["area"]["std"]
    assert missing.any()
    assert torch.allclose(area[missing], torch.tensor(median))
    assert abs(area[~missing].mean()) < 1e-5
    assert torch.equal(x[:, 2:6].sum(1), torch.ones(len(x)))


def test_predictions_use_the_same_preprocessing_as_training(
    data: ModuleType, images: Path, table: Path
) -> None:
    rows = data.CSVDataModule(table, target="price")
    rows.setup()
    found = read_inputs(rows.preprocessing, table)
    trained = torch.cat([whole(rows, split)[0] for split in SPLITS])
    assert found.names[0] == "line 2"
    assert torch.equal(found.x.sort(0)[0], trained.sort(0)[0])

    folder = data.ImageFolderDataModule(images, height=12, width=10, num_workers=0)
    folder.setup()
    found = read_inputs(folder.preprocessing, images)
    dataset = folder.datasets["test"]
    place = found.names.index(dataset.paths[0].relative_to(images).as_posix())
    assert torch.equal(found.x[place], dataset[0][0])


def test_no_bad_input_is_lost(data: ModuleType, tmp_path: Path) -> None:
    module = data.DiabetesDataModule()
    module.setup()
    names = [column["name"] for column in module.preprocessing["columns"]]
    good = ",".join(["1"] * 10)
    lines = [",".join(names), good, "1,2", good.replace("1", "x", 1), good]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    inputs = read_inputs(module.preprocessing, tmp_path / "new.csv")
    assert inputs.names == ["line 2", "line 3", "line 4", "line 5"]
    assert inputs.good == [0, 3]
    assert inputs.x.shape == (2, 10)
    assert inputs.errors == {
        1: "2 cells, but the header has 10",
        2: "column 'age' holds 'x', not a finite number",
    }


def test_an_infinite_value_is_rejected_by_name(data: ModuleType) -> None:
    class Infinite(data.DiabetesDataModule):  # type: ignore[name-defined]
        def read(self) -> Any:
            table = super().read()
            table.columns["bmi"][7] = np.inf
            return table

    with pytest.raises(UserError, match="'bmi' is not a finite number in sample 7"):
        Infinite().setup()


def test_user_errors_are_one_sentence(
    data: ModuleType, table: Path, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    for module, message in (
        (data.DigitsDataModule(batch_size=0), "data.batch_size must be an integer of at least"),
        (data.DigitsDataModule(val_fraction=1.5), "data.val_fraction must be a number above 0 and"),
        (data.DigitsDataModule(shift=8), "data.shift must be an integer from 0 to 7, not 8"),
        (data.CSVDataModule(table, target="prise"), "no column 'prise'; did you mean 'price'?"),
        (data.CSVDataModule(tmp_path / "no.csv", target="price"), "There is no file"),
        (data.ImageFolderDataModule(tmp_path), "holds no image"),
        (data.ImageFolderDataModule(images, channels=4), "data.channels must be 3"),
    ):
        with pytest.raises(UserError) as raised:
            module.setup()
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)
