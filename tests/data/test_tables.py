"""Tables in any dialect, and what is wrong with those that cannot be used."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from .conftest import TABLE, Rejection, whole, write


def changed(line: int, text: str) -> str:
    """The table with another text on one line, counted from 1."""
    lines = TABLE.split("\n")
    lines[line - 1] = text
    return "\n".join(lines)


@pytest.mark.parametrize(
    "text",
    [
        TABLE,
        TABLE + "\n",
        TABLE.replace("\n", "\r\n"),
        "\ufeff" + TABLE,
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace(",", " | "),
        TABLE.replace("\n", "\n\n"),
        TABLE.replace("red", '"red"').replace("age", '"age"'),
    ],
    ids=["plain", "last line", "Windows", "Excel", "semicolon", "tab", "bar", "gaps", "quotes"],
)
def test_the_same_table_in_any_dialect_gives_the_same_samples(
    data: ModuleType, tmp_path: Path, text: str
) -> None:
    plain = data.CSVDataModule(write(tmp_path / "plain.csv", TABLE), target="bought")
    module = data.CSVDataModule(write(tmp_path / "table.csv", text), target="bought")
    plain.setup()
    module.setup()
    assert module.describe() == plain.describe()
    assert module.describe()["class_names"] == ["no", "yes"]
    assert module.preprocessing["features"] == [
        "age", "colour=green", "colour=red", "colour=?", "size",
    ]  # fmt: skip
    for split in ("train", "val", "test"):
        assert torch.equal(whole(module, split)[0], whole(plain, split)[0])


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({"drop": ["size"]}, ["age", "colour=green", "colour=red", "colour=?"]),
        ({"numeric": ["size"]}, ["colour=green", "colour=red", "colour=?", "size"]),
        ({"numeric": ["size"], "categorical": []}, ["size"]),
        ({"categorical": []}, ["age", "size"]),
    ],
)
def test_the_user_chooses_the_columns(
    data: ModuleType, tmp_path: Path, options: dict[str, list[str]], features: list[str]
) -> None:
    module = data.CSVDataModule(write(tmp_path / "t.csv", TABLE), target="bought", **options)
    module.setup()
    assert module.preprocessing["features"] == features


@pytest.mark.parametrize(
    ("values", "task", "facts"),
    [
        (["b", "a"], "classification", ["a", "b"]),
        (["10", "9", "8"], "classification", ["8", "9", "10"]),
        ([str(i) for i in range(20)], "classification", [str(i) for i in range(20)]),
        ([str(i) for i in range(21)], "regression", None),
        (["0.5", "1", "2"], "regression", None),
    ],
)
def test_the_task_is_inferred_from_the_target(
    data: ModuleType, tmp_path: Path, values: list[str], task: str, facts: list[str] | None
) -> None:
    rows = [f"{i},{values[i % len(values)]}" for i in range(8 * len(values))]
    path = write(tmp_path / "t.csv", "\n".join(["x,y", *rows]))
    module = data.CSVDataModule(path, target="y")
    module.setup()
    assert module.task == task
    if facts is not None:
        assert module.class_names == facts
    else:
        forced = data.CSVDataModule(path, target="y", task="classification")
        forced.setup()
        assert forced.num_classes == len(values)


NUMBERS = "\n".join(["x,y", *(f"{i},{i}.5" for i in range(30))])


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        (TABLE, {"target": "brought"}, ["no column 'brought'", "'bought'?"]),
        (TABLE, {"target": None}, ["data.target", "age, colour, size, bought"]),
        (TABLE, {"drop": ["colur"]}, ["no column 'colur'", "'colour'?"]),
        (TABLE, {"drop": ["age"], "numeric": ["age"]}, ["'age'", "more than one role"]),
        (TABLE, {"numeric": ["colour"]}, ["'colour'", "finite number", "lines 2, 3", "green"]),
        (TABLE, {"task": "guess"}, ["'guess'", "regression"]),
        (TABLE, {"task": "regression"}, ["'bought'", "finite number", "first 'no'"]),
        (TABLE, {"delimiter": ";;"}, ["';;'", "one character"]),
        (TABLE, {"drop": ["age", "colour", "size"]}, ["No column", "left"]),
        (changed(4, "1,red,2"), {}, ["4 columns", "line 4 (first 3)"]),
        (changed(4, "1,red,2,yes,no"), {}, ["4 columns", "line 4 (first 5)"]),
        (changed(6, "1,red,2,"), {}, ["'bought' is missing on line 6"]),
        (changed(6, "1,red,2,NA"), {}, ["'bought' is missing on line 6"]),
        (changed(5, "inf,red,2,no"), {}, ["'age' of", "not on line 5 (first 'inf')", "data.drop"]),
        (changed(5, "-1e999,red,2,no"), {}, ["(first '-1e999')", "data.categorical=[age,colour]"]),
        (changed(5, "1_0,red,2,no"), {"numeric": ["age"]}, ["'age'", "line 5", "'1_0'"]),
        (changed(1, "age,age,size,bought"), {}, ["more than one column called 'age'"]),
        (changed(2, '"1\n2",red,2,no\n1,red'), {}, ["line 4"]),
        (TABLE.replace("yes", "no"), {}, ["'bought'", "always 'no'"]),
        (NUMBERS, {"target": "z"}, ["no column 'z'", "x, y"]),
        (NUMBERS.replace("7.5", "7_5"), {"target": "y"},
         ["'y' of", "lines 9, 19, 29 (first '7_5')", "data.task=classification"]),
        ("x,y\n" + "1,2.50\n2,2.5\n" * 9, {"target": "y"}, ["'y'", "always 2.5"]),
        ("x,y\n" + "".join(f",{i}.5\n" for i in range(30)), {"target": "y"}, ["'x'", "no value"]),
        ("x,y\n1,2.5\n2,3.5", {"target": "y"}, ["split would hold 0 of 2"]),
        ("\n".join(["x,y", *(f"a{i},{i}.5" for i in range(99))]), {"target": "y"},
         ["More than 50 different texts are in x of", "data.drop=[x]"]),
        ("", {}, ["holds no rows"]),
        ("age,colour,size,bought\n", {}, ["holds no rows"]),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_explained(
    rejection: Rejection, data: ModuleType, tmp_path: Path, text: str, options: dict[str, Any],
    words: list[str],
) -> None:  # fmt: skip
    path = write(tmp_path / "table.csv", text)
    message = rejection(data.CSVDataModule(path, **({"target": "bought"} | options)))
    assert all(word in message for word in words), message


def test_a_file_that_is_no_table_is_explained(
    rejection: Rejection, data: ModuleType, tmp_path: Path
) -> None:
    for path in (
        tmp_path / "missing.csv",
        tmp_path,
        write(tmp_path / "excel.txt", TABLE, encoding="utf-16"),
        write(tmp_path / "latin.csv", TABLE.replace("red", "grün"), encoding="latin-1"),
    ):
        message = rejection(data.CSVDataModule(path, target="bought"))
        assert str(path) in message
        assert "CSV" in message


def test_many_bad_lines_are_counted_not_listed(
    rejection: Rejection, data: ModuleType, tmp_path: Path
) -> None:
    path = write(tmp_path / "t.csv", TABLE.replace(",yes", ","))
    message = rejection(data.CSVDataModule(path, target="bought"))
    assert "lines 3, 5, 7, 9, 11 and 15 more" in message


def test_the_row_numbers_of_a_data_frame_are_not_learnt(
    data: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{i},{row}" for i, row in enumerate(TABLE.split("\n"))]
    rows[0] = rows[0].replace("0,", ",", 1)
    module = data.CSVDataModule(write(tmp_path / "t.csv", "\n".join(rows)), target="bought")
    module.setup()
    assert module.preprocessing["features"][0] == "age"
    assert "(no name)" in caplog.text
