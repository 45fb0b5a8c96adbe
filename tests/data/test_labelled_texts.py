"""A CSV file with texts: what becomes of each of them, and files that cannot be used."""

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from ..support.labelled_texts import save_tokenizer, write_orders
from ..support.tables import rejection_of
from ..support.template_package import Part

PAD = 256
# Quoted, of several lines, with letters of one to four bytes, with spaces around, empty, long.
TEXTS = ["plain", 'two\nlines, "quoted"', "ä— 😀", "  spaces  ", "", "NA", "x" * 70]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Each of the texts ten times, with a label that names it."""
    path = tmp_path / "texts.csv"
    write(path, [(text, f"class {i}", f"{i}.5") for i, text in enumerate(TEXTS)] * 10)
    return path


def write(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """Write a table of texts, labels and numbers."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "stars"), *rows])


def make(package: Part, path: Path, **options: Any) -> Any:
    """The data, not set up."""
    options = {"text": "text", "target": "label", "max_length": 64} | options
    return package("data").TextCSVDataModule(str(path), **options)


def set_up(package: Part, path: Path, **options: Any) -> Any:
    """The data."""
    datamodule = make(package, path, **options)
    datamodule.setup("fit")
    return datamodule


def rows_of(datamodule: Any) -> list[tuple[list[int], int]]:
    """The codes and the label of every sample, without padding."""
    found = []
    for loader in ("train", "val", "test"):
        for batch in getattr(datamodule, f"{loader}_dataloader")():
            codes, mask, labels = batch["input_ids"], batch["attention_mask"], batch["label"]
            for row, kept, label in zip(codes, mask, labels.tolist(), strict=True):
                length = int(kept.sum())
                # The padding follows the text, and a batch is as long as its longest text.
                assert kept.tolist() == [1] * length + [0] * (len(kept) - length)
                assert row[length:].tolist() == [PAD] * (len(kept) - length)
                found.append((row[:length].tolist(), label))
            assert int(mask.sum(dim=1).max()) == mask.shape[1]
    return found


def test_every_text_becomes_its_bytes_with_its_label(package: Part, path: Path) -> None:
    """A text cut, shifted or beside the label of another one would only lower the accuracy."""
    datamodule = set_up(package, path, batch_size=4)
    names = datamodule.class_names
    expected = []
    for text, label in zip(TEXTS, sorted(names), strict=True):
        codes = list(text.strip().encode())[:64] or [PAD]
        expected += [(codes, names.index(label))] * 10
    assert sorted(rows_of(datamodule)) == sorted(expected)


def test_cut_and_empty_texts_are_counted(
    package: Part, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A model that misses the ends of most texts would otherwise only be a bad one."""
    with caplog.at_level(logging.WARNING):
        set_up(package, path)
    assert "10 of 70 texts are longer than data.max_length=64 bytes" in caplog.text
    assert "10 of 70 texts are empty" in caplog.text


def test_several_columns_are_joined(package: Part, path: Path) -> None:
    """A title and a body."""
    datamodule = set_up(package, path, text=["text", "stars"])
    texts = {bytes(codes).decode(errors="replace") for codes, _ in rows_of(datamodule)}
    assert {"plain\n0.5", "4.5"} < texts


def test_targets_are_those_of_tables(package: Part, path: Path) -> None:
    """Numbers are values, standardised; a number of stars is a class."""
    datamodule = set_up(package, path, target="stars", task="regression")
    assert datamodule.describe()["target_name"] == "stars"
    labels = torch.tensor([label for _, label in rows_of(datamodule)])
    found = labels * datamodule.target_std + datamodule.target_mean
    assert sorted(found.tolist()) == pytest.approx(sorted([i + 0.5 for i in range(7)] * 10))
    assert set_up(package, path).class_counts == [
        [label for _, label in train_rows(set_up(package, path))].count(i) for i in range(7)
    ]


def train_rows(datamodule: Any) -> list[tuple[None, int]]:
    return [(None, label) for b in datamodule.train_dataloader() for label in b["label"].tolist()]


def test_groups_folds_and_given_splits(package: Part, tmp_path: Path) -> None:
    """As for tables: nothing of a group is in two splits, and folds cover everything once."""
    authors = [f"author {number % 40}" for number in range(200)]
    given = ["test" if number % 5 == 0 else "train" for number in range(200)]
    path = write_orders(tmp_path / "orders.csv", 100, author=authors, split=given)
    options = {"text": "review", "target": "label"}
    module = set_up(package, path, **options, split_column="split")
    assert module.num_samples["test"] == 40
    grouped = [set_up(package, path, **options, group="author", folds=4, fold=i) for i in range(4)]
    assert sum(module.num_samples["test"] for module in grouped) == 200
    assert len({module.fingerprints()["test"]["fingerprint"] for module in grouped}) == 4


def test_facts_are_plain_values(package: Part, path: Path) -> None:
    """A checkpoint holds them."""
    datamodule = set_up(package, path)
    facts = {"model": datamodule.describe(), "data": dict(datamodule.hparams)}
    assert json.loads(json.dumps(facts)) == facts
    assert facts["model"]["input_shape"] == [64, 257]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"text": None}, ["data.text=...", "text, stars"]),
        ({"text": "txt"}, ["no column 'txt'", "'text'"]),
        ({"text": "label"}, ["'label'", "more than one role"]),
        ({"target": None}, ["data.target=..."]),
        ({"max_length": 3}, ["data.max_length must be an integer of at least 8"]),
        ({"tokenizer": "/nowhere"}, ["no tokenizer.json in /nowhere", "null for bytes"]),
        ({"target": "text", "text": "label"}, ["'text' is missing on lines", "and 15 more"]),
    ],
)
def test_unusable_options_get_one_sentence(
    package: Part, path: Path, options: dict[str, Any], parts: list[str]
) -> None:
    message = rejection_of(package, make(package, path, **options))
    for part in parts:
        assert part in message


def test_only_empty_texts_are_rejected(package: Part, tmp_path: Path) -> None:
    """There is nothing to learn from."""
    write(tmp_path / "empty.csv", [(" ", f"class {i % 2}", "1") for i in range(40)])
    assert "All texts are empty (text)" in rejection_of(
        package, make(package, tmp_path / "empty.csv")
    )


def test_table_with_a_column_of_sentences_names_this_experiment(
    package: Part, tmp_path: Path
) -> None:
    """Somebody who starts with experiment=csv would otherwise only hear what does not work."""
    path = write_orders(tmp_path / "orders.csv", 100)
    message = rejection_of(package, package("data").CSVDataModule(str(path), target="label"))
    for part in ("'review'", "experiment=text_csv", "data.text=review", "data.drop=[review]"):
        assert part in message


def test_tokens_are_those_of_transformers(package: Part, path: Path, tmp_path: Path) -> None:
    """With special tokens, also at the end of a text that is cut; and padding of its own."""
    transformers, folder = pytest.importorskip("transformers"), tmp_path / "tokenizer"
    tokenizer = save_tokenizer(folder, ["plain", "two", "lines", "quoted", "x", '"', ","])
    datamodule = set_up(package, path, tokenizer=str(folder), max_length=8, batch_size=70)
    assert datamodule.input_shape == (8, len(tokenizer))
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    expected = loaded(
        [text.strip() for text in TEXTS] * 10, max_length=8, truncation=True, padding=True
    )
    found = [
        (*codes, *mask)
        for loader in (
            datamodule.train_dataloader,
            datamodule.val_dataloader,
            datamodule.test_dataloader,
        )
        for batch in loader()
        for codes, mask in zip(
            batch["input_ids"].tolist(), batch["attention_mask"].tolist(), strict=True
        )
    ]
    rows = zip(expected["input_ids"], expected["attention_mask"], strict=True)
    assert sorted(found) == sorted((*codes, *mask) for codes, mask in rows)
