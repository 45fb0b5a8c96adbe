"""evaluate.py, predict.py, runs.py and load_run, on the runs that train.py has left."""

import csv
import io
import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_diabetes, load_digits

from ..conftest import BakedProject
from ..support.training_runs import TrainedRun, evaluate, predict, script

# As a notebook does it: one call for the run, one for a model alone.
NOTEBOOK = """
import json, sys, torch
from demo.models import {model}
from workbench import load_run

run = load_run("{folder}")
outputs, targets = [], []
with torch.no_grad():
    for x, y in run.datamodule.test_dataloader():
        outputs.append(run.model(x))
        targets.append(y)
outputs, targets = torch.cat(outputs), torch.cat(targets)
alone = {model}.load_from_checkpoint("{folder}/checkpoints/last.ckpt")
json.dump(
    {{
        "score": {score},
        "seed": run.config.seed,
        "metrics": run.metrics,
        "sizes": run.datamodule.num_samples,
        "training": run.model.training,
        "last": sorted(alone.state_dict()) == sorted(run.model.state_dict()),
    }},
    sys.stdout,
)
"""
ACCURACY = "(outputs.argmax(dim=1) == targets).float().mean().item()"
R2 = "1 - ((outputs - targets) ** 2).mean().item() / targets.var(correction=0).item()"


@dataclass(frozen=True)
class Done:
    """What the commands of this module have answered."""

    notebooks: dict[str, "Future[dict[str, Any]]"]
    evaluations: dict[str, "Future[dict[str, float]]"]
    predictions: dict[str, "Future[list[dict[str, str]]]"]
    all_bad: "Future[CompletedProcess[str]]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("later")


@pytest.fixture(scope="module")
def done(
    demo: BakedProject,
    digits: TrainedRun,
    diabetes: TrainedRun,
    folder: Path,
    side_by_side: ThreadPoolExecutor,
) -> Done:
    """All commands, two at a time."""
    start = side_by_side.submit
    moved = folder / "mailed.ckpt"
    shutil.copy(digits.checkpoint(), moved)
    write_digits(folder / "pictures")
    write_patients(folder / "patients.csv")
    (folder / "bad").mkdir()
    (folder / "bad" / "broken.png").write_bytes(b"no picture")
    options = (f"ckpt_path={digits.checkpoint()}", f"input={folder / 'bad'}")
    table = f"output={folder / 'new' / 'table.csv'}"

    def notebook(code: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(script(demo, "-c", code).stdout)
        return loaded

    def place(name: str) -> Path:
        return folder / name.replace(" ", "_")

    return Done(
        notebooks={
            "digits": start(notebook, notebook_of(digits, "Classifier", ACCURACY)),
            "diabetes": start(notebook, notebook_of(diabetes, "Regressor", R2)),
        },
        evaluations={
            "test": start(evaluate, demo, digits.checkpoint(), place("test")),
            "val": start(evaluate, demo, diabetes.checkpoint(), place("val"), "split=val"),
            "moved": start(evaluate, demo, moved, place("moved"), "data=digits"),
        },
        predictions={
            "digits": start(predict, demo, digits.checkpoint(), folder / "pictures", place("p")),
            "diabetes": start(
                predict, demo, diabetes.checkpoint(), folder / "patients.csv", place("r")
            ),
        },
        all_bad=start(script, demo, "predict.py", *options, table, f"hydra.run.dir={place('b')}"),
    )


def notebook_of(run: TrainedRun, model: str, score: str) -> str:
    """The code that loads a run."""
    return NOTEBOOK.format(model=model, folder=run.folder, score=score)


def write_digits(folder: Path) -> None:
    """Write forty digits, in folders named after them, and two files that are no picture."""
    data = load_digits()
    for number in range(40):
        pixels = (data.images[number] * 255 / 16).round().astype(np.uint8)
        place = folder / f"{data.target[number]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")


def write_patients(path: Path) -> None:
    """Write all patients without their target; three rows miss something."""
    patients = load_diabetes(scaled=False)
    columns = list(patients.feature_names)
    rows = [[str(value) for value in row] for row in patients.data]
    rows[3][columns.index("bmi")] = "heavy"
    rows[5] = rows[5][:-1]
    rows[7][columns.index("bp")] = ""
    path.write_text("\n".join(",".join(row) for row in [columns, *rows]) + "\n")


# load_run


@pytest.mark.parametrize(("name", "metric"), [("digits", "test/acc"), ("diabetes", "test/r2")])
def test_loaded_run_scores_as_in_the_test(
    done: Done, name: str, metric: str, request: pytest.FixtureRequest
) -> None:
    """Other data, other weights or a model in training mode would score otherwise."""
    run: TrainedRun = request.getfixturevalue(name)
    loaded = done.notebooks[name].result()
    assert loaded["score"] == pytest.approx(run.metrics["test"][metric], abs=1e-5)
    assert loaded["metrics"] == run.metrics
    assert loaded["seed"] == 42
    assert loaded["sizes"]["test"] == {"digits": 359, "diabetes": 88}[name]
    assert loaded["last"]
    assert not loaded["training"]


# evaluate.py


def test_evaluation_repeats_the_test(done: Done, digits: TrainedRun, folder: Path) -> None:
    """Two numbers for one checkpoint would leave nobody knowing which to believe."""
    metrics = done.evaluations["test"].result()
    assert metrics == pytest.approx(digits.metrics["test"], abs=1e-6)
    assert Image.open(folder / "test" / "figures" / "confusion.png").size > (500, 400)


def test_evaluation_of_the_validation_part(done: Done, diabetes: TrainedRun, folder: Path) -> None:
    """While choices are being made the test part must stay unseen."""
    best = {name: value for name, value in diabetes.metrics["best"].items() if "val/" in name}
    assert done.evaluations["val"].result() == pytest.approx(best, abs=1e-4)
    assert Image.open(folder / "val" / "figures" / "residuals.png").size > (500, 400)


def test_evaluation_of_a_moved_checkpoint(done: Done, digits: TrainedRun) -> None:
    """A checkpoint that was mailed to a colleague is evaluated when its data are named."""
    metrics = done.evaluations["moved"].result()
    assert metrics == pytest.approx(digits.metrics["test"], abs=1e-6)


# predict.py


def test_pictures_get_class_and_probabilities(done: Done) -> None:
    """The table of a folder names every picture, its class and how sure the model is."""
    good = [row for row in done.predictions["digits"].result() if not row["error"]]
    assert len(good) == 40
    right = [row["input"].startswith(f"{row['prediction']}/") for row in good]
    assert sum(right) >= 38
    for row in good:
        shares = {name: float(row[f"p({name})"]) for name in map(str, range(10))}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
        assert max(shares, key=shares.__getitem__) == row["prediction"]


def test_bad_pictures_stay_in_the_table(done: Done) -> None:
    """A picture that is silently left out shifts everything that is joined to the table."""
    bad = [row for row in done.predictions["digits"].result() if row["error"]]
    assert sorted(row["input"] for row in bad) == ["broken.png", "notes.txt"]
    assert all(row["prediction"] == "" for row in bad)


def test_rows_get_values_and_bad_lines_their_number(done: Done) -> None:
    """Values come in the target's unit; a bad line is told by its number in the file."""
    rows = done.predictions["diabetes"].result()
    target = load_diabetes().target
    assert [row["input"] for row in rows] == [f"line {line}" for line in range(2, 444)]
    bad = [number for number, row in enumerate(rows) if row["error"]]
    assert bad == [3, 5]
    assert "heavy" in rows[3]["error"]
    (name,) = set(rows[0]) - {"input", "error"}
    good = [number for number in range(len(rows)) if number not in bad]
    values = np.array([float(rows[number][name]) for number in good])
    assert np.corrcoef(values, target[good])[0, 1] > 0.65
    assert np.abs(values - target[good]).mean() < 50


def test_bad_inputs_are_told_on_the_console(done: Done, folder: Path) -> None:
    """Nobody reads the last column of a long table unless told to."""
    printed = done.all_bad.result().stdout
    assert "1 of 1 inputs could not be read: broken.png" in printed
    assert (folder / "new" / "table.csv").read_text().count("\n") == 2


# runs.py


@pytest.fixture(scope="module")
def logs(
    digits: TrainedRun, diabetes: TrainedRun, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with two runs, and one that has only just begun."""
    folder = tmp_path_factory.mktemp("logs")
    for name, run in (("digits", digits), ("diabetes", diabetes)):
        (folder / "train" / name).mkdir(parents=True)
        shutil.copy(run.folder / "run.json", folder / "train" / name)
    begun = digits.manifest | {"status": "running", "started": "2001-01-01T00:00:00+00:00"}
    del begun["metrics"], begun["checkpoints"], begun["ended"]
    (folder / "begun").mkdir()
    (folder / "begun" / "run.json").write_text(json.dumps(begun | {"timings": {}}))
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text('{"status": "fin')
    return folder


def test_runs_are_listed_for_people(demo: BakedProject, logs: Path, digits: TrainedRun) -> None:
    """All runs at a glance, also those that have no result yet or no readable file."""
    lines = script(demo, "runs.py", str(logs)).stdout.splitlines()
    shown = [line for line in lines if any(word in line for word in ("train/", "begun", "broken"))]
    names = [line.strip("│ ").split()[0] for line in shown]
    assert sorted(names) == ["begun", "broken", "train/diabetes", "train/digits"]
    line = next(line for line in shown if "train/digits" in line)
    commit = digits.manifest["git"]["commit"][:7]
    for word in ("finished", "val/acc", commit, f"{digits.metrics['test']['test/acc']:.4g}"):
        assert word in line


def test_runs_go_into_a_spreadsheet(
    demo: BakedProject, logs: Path, digits: TrainedRun, diabetes: TrainedRun
) -> None:
    """The CSV has every metric with all its digits."""
    text = script(demo, "runs.py", str(logs), "--csv").stdout
    rows = {row["run"]: row for row in csv.DictReader(io.StringIO(text))}
    assert len(rows) == 4
    assert float(rows["train/digits"]["test acc"]) == digits.metrics["test"]["test/acc"]
    assert float(rows["train/diabetes"]["test r2"]) == diabetes.metrics["test"]["test/r2"]
    assert rows["begun"]["status"] == "running"


@pytest.mark.parametrize(("column", "first"), [("started", "begun"), ("test acc", "train/digits")])
def test_runs_are_sorted(demo: BakedProject, logs: Path, column: str, first: str) -> None:
    """The oldest first, or the best by any metric; runs without a value come last."""
    text = script(demo, "runs.py", str(logs), "--csv", "--sort", column).stdout
    assert next(csv.DictReader(io.StringIO(text)))["run"] == first
