"""New inputs for a trained model: tables and images, good and bad."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from PIL import Image

from ..support.template_package import Part
from .conftest import TABLE, image_folder, truncate, whole, write


@pytest.fixture
def table_model(data: ModuleType, tmp_path: Path) -> dict[str, Any]:
    """The preprocessing in a checkpoint of a model of the table."""
    module = data.CSVDataModule(write(tmp_path / "train.csv", TABLE), target="bought")
    module.setup()
    return json.loads(json.dumps(module.preprocessing))


def test_a_new_table_needs_only_the_columns_of_the_model(
    package: Part, table_model: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "new.csv", "note;size;colour;age\nx;1;red;20\ny;;violet;\nz;1;;20")
    inputs = package("data.inputs").read_inputs(table_model, path)
    assert inputs.good == [0, 1, 2]
    assert inputs.errors == {}
    age, size = table_model["columns"][0], table_model["columns"][2]
    # The second row: medians, and a colour that training never saw.
    assert inputs.x[1].tolist() == pytest.approx(
        [
            (age["median"] - age["mean"]) / age["std"],
            *[0, 0, 1],
            (size["median"] - size["mean"]) / size["std"],
        ]
    )
    assert inputs.x[:, 1:4].tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 1]]


def test_bad_rows_are_reported_by_line_and_none_is_lost(
    package: Part, table_model: dict[str, Any], tmp_path: Path
) -> None:
    text = 'age,colour,size\n1,red,2\n\n"1",red\nold,red,2\n1,"re\nd",inf\n5,green,6'
    inputs = package("data.inputs").read_inputs(table_model, write(tmp_path / "n.csv", text))
    assert inputs.names == ["line 2", "line 4", "line 5", "line 6", "line 8"]
    assert inputs.good == [0, 4]
    assert len(inputs.x) == 2
    assert set(inputs.errors) == {1, 2, 3}
    assert "'old'" in inputs.errors[2]
    assert "'inf'" in inputs.errors[3]


def test_a_table_of_bad_rows_gives_no_inputs_and_all_reasons(
    package: Part, table_model: dict[str, Any], tmp_path: Path
) -> None:
    path = write(tmp_path / "n.csv", "age,colour,size\n1\n2")
    inputs = package("data.inputs").read_inputs(table_model, path)
    assert inputs.x.shape == (0, 5)
    assert len(inputs.errors) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("age,color,size\n1,red,2", ["no column 'colour'", "'color'?"]),
        ("age,colour,size", ["no rows"]),
        (None, ["There is nothing at"]),
    ],
)
def test_a_new_table_that_does_not_fit_is_explained(
    package: Part, table_model: dict[str, Any], tmp_path: Path, text: str | None, words: list[str]
) -> None:
    path = tmp_path / "new.csv"
    if text is not None:
        write(path, text)
    with pytest.raises(package("errors").UserError) as told:
        package("data.inputs").read_inputs(table_model, path)
    assert all(word in str(told.value) for word in words)


def test_images_of_all_kinds_become_inputs(package: Part, data: ModuleType, folder: Path) -> None:
    read_inputs = package("data.inputs").read_inputs
    module = image_folder(data, folder, channels=1, height=5, width=7)
    module.setup()
    spec = json.loads(json.dumps(module.preprocessing))
    truncate(folder / "cat" / "1.png")
    (folder / "notes.txt").write_text("no image")
    inputs = read_inputs(spec, folder)
    assert len(inputs.names) == 25
    assert inputs.x.shape == (23, 1, 5, 7)
    assert {inputs.names[position] for position in inputs.errors} == {"cat/1.png", "notes.txt"}
    assert sorted([*inputs.good, *inputs.errors]) == list(range(25))
    single = read_inputs(spec, folder / "dog" / "4.png")
    assert single.names == ["4.png"]
    place = inputs.good.index(inputs.names.index("dog/4.png"))
    assert torch.equal(single.x[0], inputs.x[place])
    broken = read_inputs(spec, folder / "cat" / "1.png")
    assert broken.x.shape == (0, 1, 5, 7)
    assert "cannot be read" in broken.errors[0]


def test_the_wrong_kind_of_input_is_rejected(
    package: Part, data: ModuleType, table_model: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    module = image_folder(data, folder)
    module.setup()
    (tmp_path / "empty").mkdir()
    for spec, path, words in (
        (table_model, folder, "give a CSV file"),
        (module.preprocessing, tmp_path / "train.csv", "trained on images"),
        (module.preprocessing, tmp_path / "empty", "holds no image"),
    ):
        with pytest.raises(package("errors").UserError, match=words):
            package("data.inputs").read_inputs(spec, path)


def test_a_digit_saved_as_an_image_is_the_digit_of_training(
    package: Part, data: ModuleType, tmp_path: Path
) -> None:
    module = data.DigitsDataModule()
    module.setup()
    pixels = module.datasets["test"].x[0, 0]
    Image.fromarray(pixels.numpy()).save(tmp_path / "digit.png")
    inputs = package("data.inputs").read_inputs(module.preprocessing, tmp_path)
    assert torch.equal(inputs.x[0], whole(module, "test")[0][0])
    assert pixels.max() > 200  # the full range of an image file, not 0 to 16
