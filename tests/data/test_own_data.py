"""The user's own table and own pictures: train, evaluate and predict with options alone."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ..conftest import BakedProject
from ..support.own_data import COLOURS, write_flats, write_fruit
from ..support.training_runs import TrainedRun, evaluate, predict, train

FEW = ("logger=none", "trainer.max_epochs=12", "optimizer.lr=0.01")


@dataclass(frozen=True)
class Way:
    """A data set on its whole way: trained, evaluated, predicted."""

    run: TrainedRun
    evaluated: dict[str, float]
    predicted: list[dict[str, str]]


@pytest.fixture(scope="module")
def ways(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, "Future[Way]"]:
    folder = tmp_path_factory.mktemp("own")
    flats, fruit = folder / "flats.csv", folder / "fruit"
    write_flats(flats, rows=400)
    write_fruit(fruit, per_class=24)
    new_flats, new_fruit = write_new_inputs(folder, fruit)
    classes = ("experiment=csv", f"data.path={flats}", "data.target=dear", "data.drop=[id,price]")
    values = (
        "experiment=csv_regression",
        f"data.path={flats}",
        "data.target=price",
        "data.drop=[id,dear]",
    )
    pictures = ("experiment=image_folder", f"data.path={fruit}", "data.height=24", "data.width=24")
    commands = {
        "classes": (new_flats, classes),
        "values": (new_flats, values),
        "pictures": (new_fruit, pictures),
    }
    return {
        name: side_by_side.submit(go, demo, folder / name, inputs, *options, *FEW)
        for name, (inputs, options) in commands.items()
    }


def go(demo: BakedProject, folder: Path, inputs: Path, *options: str) -> Way:
    """Train, evaluate and predict, one command each."""
    run = train(demo, folder / "run", *options)
    evaluated = evaluate(demo, run.checkpoint(), folder / "evaluation")
    return Way(run, evaluated, predict(demo, run.checkpoint(), inputs, folder / "prediction"))


def write_new_inputs(folder: Path, fruit: Path) -> tuple[Path, Path]:
    """Write a table and a folder to predict on, each with some that cannot be read."""
    table, pictures = folder / "new.csv", folder / "new fruit"
    lines = ["city,area,noise,id", "Oslo,100,0,1", "Rome,20,0,2", "Oslo,large,1,9", "Oslo,1"]
    table.write_text("\n".join([*lines, "Atlantis,50,1,9", ",,,"]) + "\n")
    pictures.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (50, 80), colour).save(pictures / f"{name}.webp")
    Image.new("L", (30, 30), 90).save(pictures / "grey.png")
    (pictures / "cut.jpg").write_bytes((fruit / "lime" / "1.jpg").read_bytes()[:400])
    return table, pictures


@pytest.mark.parametrize("name", ["classes", "values", "pictures"])
def test_evaluation_repeats_the_test(ways: dict[str, "Future[Way]"], name: str) -> None:
    """Own data are split and prepared the same way again when the model is loaded."""
    way = ways[name].result()
    assert way.evaluated == pytest.approx(way.run.metrics["test"], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [("classes", "test/acc", 0.85), ("values", "test/r2", 0.85), ("pictures", "test/acc", 0.9)],
)
def test_own_data_are_learnt(
    ways: dict[str, "Future[Way]"], name: str, metric: str, least: float
) -> None:
    """A category or a colour that were lost on the way could not be learnt from."""
    assert ways[name].result().run.metrics["test"][metric] >= least


@pytest.mark.parametrize("name", ["classes", "values"])
def test_every_row_is_predicted_or_explained(ways: dict[str, "Future[Way]"], name: str) -> None:
    """Missing cells and unknown cities are predicted, broken lines are told by number."""
    rows = ways[name].result().predicted
    assert [row["input"] for row in rows] == [f"line {number}" for number in range(2, 8)]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, False, False]
    assert "area" in rows[2]["error"]
    if name == "classes":
        assert [row["prediction"] for row in rows[:2]] == ["yes", "no"]
        assert float(rows[0]["p(yes)"]) + float(rows[0]["p(no)"]) == pytest.approx(1, abs=1e-5)
    else:
        assert float(rows[0]["price"]) == pytest.approx(500, rel=0.2)
        assert float(rows[1]["price"]) == pytest.approx(60, abs=40)


def test_every_picture_is_predicted_or_explained(ways: dict[str, "Future[Way]"]) -> None:
    """Other sizes, formats and grey pictures are no mistake; a cut-off file is."""
    rows: dict[str, Any] = {row["input"]: row for row in ways["pictures"].result().predicted}
    for name in COLOURS:
        assert rows[f"{name}.webp"]["prediction"] == name
    assert rows["grey.png"]["error"] == ""
    assert rows["cut.jpg"]["error"]
    assert len(rows) == len(COLOURS) + 2


def test_checkpoint_of_own_data_needs_no_data(ways: dict[str, "Future[Way]"]) -> None:
    """Class names and column statistics travel with the weights."""
    saved = ways["pictures"].result().run.saved()["hyper_parameters"]
    assert saved["class_names"] == sorted(COLOURS)
    columns = ways["classes"].result().run.saved()["hyper_parameters"]["preprocessing"]["columns"]
    assert [column["name"] for column in columns] == ["city", "area", "noise"]
