"""What a table could lose between its cells and the 32-bit inputs and classes."""

import logging

import numpy as np
import pytest

from ..support.tables import Tables, table
from ..support.template_package import Part

LARGE = 2**60


@pytest.mark.parametrize("value", ["0.1", "14.62", "1.1", "2.7", "0", "1e300", "1e-300", "red"])
def test_a_column_that_never_changes_does_not_decide(
    tables: Tables, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    """A rounding error in its deviation would turn the smallest difference into a huge input."""
    module = tables.column([value])
    module.setup()
    assert "constant in the training split: x" in caplog.text
    assert module.preprocessing["features"] == ["k"]
    other = "blue" if value == "red" else f"{float(value) * 1.000001 + 1e-7:.17g}"
    inputs = tables.new(module, f"x,k\n{value},3\n{other},3")
    assert inputs.x[0].tolist() == inputs.x[1].tolist()


def test_rounding_errors_are_no_change(tables: Tables) -> None:
    """0.1 + 0.2 is not 0.3 in a spreadsheet either, and the difference means nothing."""
    cells = [repr(0.1 + 0.2), "0.3", repr(0.1 * 3)]
    module = tables.column(cells)
    module.setup()
    assert module.preprocessing["features"] == ["k"]
    # A real difference, as small as a 64-bit number of this size can show it.
    module = tables.column(["1", "1.00000000000001"])
    module.setup()
    x = module.datasets["train"].x[:, 0].unique()
    assert len(x) == 2
    assert float(x.max() - x.min()) == pytest.approx(2, rel=1e-2)


def test_a_constant_with_gaps_still_tells_where_they_are(tables: Tables) -> None:
    """Whether a value is there can be worth more than the value."""
    module = tables.column(["0.1", ""])
    module.setup()
    assert module.preprocessing["features"] == ["x", "x missing", "k"]
    inputs = tables.new(module, "x,k\n0.1,1\n0.1000001,1\n,1\n1e9,1")
    assert inputs.x[:, :2].tolist() == [[0, 0], [0, 0], [0, 1], [0, 0]]


def test_a_table_of_constants_is_rejected(tables: Tables) -> None:
    """Every row would get the same prediction."""
    message = tables.rejection(tables.module("x,y\n" + "5,yes\n5.0,no\n" * 20))
    assert "All columns are constant in the training split (x)" in message


@pytest.mark.parametrize("power", [-300, -160, 0, 160, 300, 307])
def test_numbers_of_any_size_are_standardised(tables: Tables, power: int) -> None:
    """Their squares leave the range of a float: differences vanish or become infinite."""
    digits = [1.0, 1.25, 1.5, 2.0, 1.75, -1.0]
    module = tables.column([f"{digit}e{power}" for digit in digits])
    module.setup()
    found = tables.new(module, table([f"{digit}e{power}" for digit in digits])).x[:, 0].numpy()
    train = module.datasets["train"].x[:, 0].double().numpy()
    assert train.mean() == pytest.approx(0, abs=1e-6)
    assert train.std() == pytest.approx(1, rel=1e-6)
    expected = np.array(digits * 10)
    # Standardising is linear, whatever the unit.
    assert np.corrcoef(found, expected)[0, 1] == pytest.approx(1, abs=1e-12)


def test_a_new_value_beyond_32_bits_is_an_error_of_its_row(tables: Tables) -> None:
    """Infinity makes the prediction NaN, and with batch norm every other one."""
    module = tables.column(["1", "2", "4"])
    module.setup()
    inputs = tables.new(module, "x,k\n1,1\n1e300,1\n1e999,1\n3e30,1")
    assert inputs.good == [0, 3]
    assert "too far" in inputs.errors[1]
    assert "not a finite number" in inputs.errors[2]
    assert np.isfinite(inputs.x.numpy()).all()


def test_a_value_outside_training_beyond_32_bits_is_rejected(package: Part, tables: Tables) -> None:
    """The validation loss would be NaN."""
    module = tables.module(table([str(i) for i in range(60)]))
    module.setup()
    rows = tables.path.read_text().splitlines()
    fitted = module.preprocessing["columns"][0]
    first = module.datasets["val"].x[0, 0] * fitted["std"] + fitted["mean"]
    line = 1 + round(float(first))
    rows[line] = "1e200" + rows[line][rows[line].index(",") :]
    message = tables.rejection(tables.module("\n".join(rows)))
    assert "'x' is too far from its values in the training split" in message
    assert f"sample {line - 1}," in message


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([str(LARGE + i) for i in range(130)], "130 different numbers become 2"),
        (["0.123456789012345671", "0.123456789012345672", "0.5"], "2 different numbers become 1"),
        (["1", "2", "3", "1e12"], "2 of 4 different values become the same input"),
    ],
)
def test_different_cells_that_become_equal_are_reported(
    tables: Tables, caplog: pytest.LogCaptureFixture, cells: list[str], words: str
) -> None:
    """An identifier or an outlier can merge many inputs into one."""
    tables.column(cells, rows=390).setup()
    assert "Column 'x'" in caplog.text
    assert words in caplog.text


@pytest.mark.parametrize(
    "cells",
    [
        [f"{i}.5" for i in range(130)],
        ["1.50", "1.5", "01.5", "2"],
        [repr(float(value)) for value in np.random.default_rng(0).normal(size=390)],
        [str(1_700_000_000 + i) for i in range(390)],
    ],
    ids=["few", "spellings", "random", "seconds"],
)
def test_harmless_columns_are_not_reported(
    tables: Tables, caplog: pytest.LogCaptureFixture, cells: list[str]
) -> None:
    """Nobody reads warnings that are always there."""
    caplog.set_level(logging.INFO)
    tables.column(cells, rows=390).setup()
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["0", "1", "1.0"], ["0", "1"]),
        (["0", "00", "1", "+1", "1e0"], ["0", "1"]),
        (["10", "9.0", "9", "1e1"], ["9", "10"]),
        (["007", "8", "08"], ["007", "8"]),
        ([str(LARGE), str(LARGE + 1)], [str(LARGE), str(LARGE + 1)]),
        (["true", "True", "False"], ["False", "True"]),
        (["a", "b", "b "], ["a", "b"]),
        (["caf\u00e9", "cafe\u0301", "bar"], ["bar", "caf\u00e9"]),
    ],
)
@pytest.mark.parametrize("task", ["auto", "classification"])
def test_a_label_written_in_two_ways_is_one_class(
    tables: Tables, cells: list[str], names: list[str], task: str
) -> None:
    """Two classes for one label are indistinguishable, and halve every score."""
    module = tables.target(cells, task=task)
    module.setup()
    assert module.class_names == names
    assert module.read().target.max() == len(names) - 1
    # The same as levels of a category.
    column = tables.column(cells, categorical=["x"])
    column.setup()
    assert column.preprocessing["features"][: len(names)] == [f"x={name}" for name in names]


def test_the_task_counts_the_labels_that_the_classes_have(tables: Tables) -> None:
    """20 integers are classes even if each is written in three ways; 21 are not."""
    for count, task in ((20, "classification"), (21, "regression")):
        cells = [text for i in range(count) for text in (str(i), f"{i}.0", f"0{i}")]
        module = tables.module(table(["u", "v"], cells, rows=6 * len(cells)))
        module.setup()
        assert module.task == task
        if task == "classification":
            assert module.class_names == [str(i) for i in range(count)]


def test_a_constant_target_is_not_called_so_if_its_texts_differ(tables: Tables) -> None:
    """007 and 7 are one number, which is what must be said; as texts they are two classes."""
    message = tables.rejection(tables.target(["007", "7"]))
    assert "always 7, written as '7' and '007'" in message
    assert "data.formats.text=[y]" in message
    module = tables.target(["007", "7"], formats={"text": ["y"]})
    module.setup()
    assert module.class_names == ["007", "7"]
    message = tables.rejection(tables.target([str(LARGE), str(LARGE + 1)], task="regression"))
    assert "always" not in message
    assert f"'{LARGE}' and '{LARGE + 1}'" in message


def test_codes_with_leading_zeros_can_stay_different(tables: Tables) -> None:
    """A code is not a number, but only its owner knows."""
    module = tables.column(["007", "7"], formats={"text": ["x"]})
    module.setup()
    assert module.preprocessing["features"] == ["x=007", "x=7", "x=?", "k"]
    inputs = tables.new(module, "x,k\n007,1\n7,1\n7.0,1")
    assert inputs.x[:, :3].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert inputs.unknown == {2: "x='7.0'"}


def test_categories_that_differ_in_case_alone_are_reported(
    tables: Tables, caplog: pytest.LogCaptureFixture
) -> None:
    """Usually they are the same, but genes are not."""
    module = tables.column(["Red", "red", "blue"])
    module.setup()
    assert module.preprocessing["features"][:3] == ["x=Red", "x=blue", "x=red"]
    assert "'Red' and 'red', which are different categories" in caplog.text
    tables.target(["A", "a"]).setup()
    assert "'A' and 'a', which are different classes" in caplog.text
