"""Your own table and images: train, evaluate and predict with options alone."""

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
class Finished:
    """A dataset from training to predictions."""

    run: TrainedRun
    evaluated: dict[str, float]
    predicted: list[dict[str, str]]


@pytest.fixture(scope="module")
def runs(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, "Future[Finished]"]:
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
    images = ("experiment=image_folder", f"data.path={fruit}", "data.height=24", "data.width=24")
    commands = {
        "classes": (new_flats, classes),
        "values": (new_flats, values),
        "images": (new_fruit, images),
    }
    return {
        name: side_by_side.submit(go, demo, folder / name, inputs, *options, *FEW)
        for name, (inputs, options) in commands.items()
    }


def go(demo: BakedProject, folder: Path, inputs: Path, *options: str) -> Finished:
    """Train, evaluate and predict, one command each."""
    run = train(demo, folder / "run", *options)
    evaluated = evaluate(demo, run.checkpoint(), folder / "evaluation")
    return Finished(run, evaluated, predict(demo, run.checkpoint(), inputs, folder / "prediction"))


def write_new_inputs(folder: Path, fruit: Path) -> tuple[Path, Path]:
    """Write a table and a folder to predict on, each with inputs that cannot be read."""
    table, images = folder / "new.csv", folder / "new fruit"
    lines = ["city,area,noise,id", "Oslo,100,0,1", "Rome,20,0,2", "Oslo,large,1,9", "Oslo,1"]
    table.write_text("\n".join([*lines, "Atlantis,50,1,9", ",,,"]) + "\n")
    images.mkdir()
    for name, colour in COLOURS.items():
        Image.new("RGB", (50, 80), colour).save(images / f"{name}.webp")
    Image.new("L", (30, 30), 90).save(images / "grey.png")
    (images / "cut.jpg").write_bytes((fruit / "lime" / "1.jpg").read_bytes()[:400])
    return table, images


@pytest.mark.parametrize("name", ["classes", "values", "images"])
def test_evaluation_repeats_the_test(runs: dict[str, "Future[Finished]"], name: str) -> None:
    """Your data are split and prepared in the same way when the model is loaded."""
    done = runs[name].result()
    assert done.evaluated == pytest.approx(done.run.metrics["test"], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "metric", "least"),
    [("classes", "test/acc", 0.85), ("values", "test/r2", 0.85), ("images", "test/acc", 0.9)],
)
def test_own_data_are_learned(
    runs: dict[str, "Future[Finished]"], name: str, metric: str, least: float
) -> None:
    """A category or a colour that was lost could not be learned from."""
    assert runs[name].result().run.metrics["test"][metric] >= least


@pytest.mark.parametrize("name", ["classes", "values"])
def test_every_row_is_predicted_or_explained(
    runs: dict[str, "Future[Finished]"], name: str
) -> None:
    """Missing cells and unknown cities are predicted, broken lines are reported by number."""
    rows = runs[name].result().predicted
    assert [row["input"] for row in rows] == [f"line {number}" for number in range(2, 8)]
    assert [bool(row["error"]) for row in rows] == [False, False, True, True, False, False]
    assert "area" in rows[2]["error"]
    if name == "classes":
        assert [row["prediction"] for row in rows[:2]] == ["yes", "no"]
        assert float(rows[0]["p(yes)"]) + float(rows[0]["p(no)"]) == pytest.approx(1, abs=1e-5)
    else:
        assert float(rows[0]["price"]) == pytest.approx(500, rel=0.2)
        assert float(rows[1]["price"]) == pytest.approx(60, abs=40)


def test_every_image_is_predicted_or_explained(runs: dict[str, "Future[Finished]"]) -> None:
    """Other sizes, formats and grey images can be read; a truncated file cannot."""
    rows: dict[str, Any] = {row["input"]: row for row in runs["images"].result().predicted}
    for name in COLOURS:
        assert rows[f"{name}.webp"]["prediction"] == name
    assert rows["grey.png"]["error"] == ""
    assert rows["cut.jpg"]["error"]
    assert len(rows) == len(COLOURS) + 2


def test_checkpoint_of_own_data_needs_no_data(runs: dict[str, "Future[Finished]"]) -> None:
    """Class names and column statistics travel with the weights."""
    saved = runs["images"].result().run.saved()["hyper_parameters"]
    assert saved["class_names"] == sorted(COLOURS)
    columns = runs["classes"].result().run.saved()["hyper_parameters"]["preprocessing"]["columns"]
    assert [column["name"] for column in columns] == ["city", "area", "noise"]
