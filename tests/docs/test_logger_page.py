"""The page on loggers: its files are typed into a project, and train with the real clients."""

import csv
import importlib.util
import json
import sqlite3
import zipfile
from pathlib import Path

import pytest

from ..conftest import ROOT, Bake, BakedProject
from ..support.doc_code import read_blocks
from ..support.training_runs import train

SHORT = ("model=mlp", "trainer.max_epochs=2", "callbacks=[default]")


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    """A project with all files of the page."""
    project = bake(project_name="My Project", author_name="Logger")
    for block in read_blocks(ROOT / "docs" / "loggers.md"):
        if block.file:
            (project.root / block.file).write_text(block.code, "utf-8")
    return project


def require(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def test_loggers_of_lightning(project: BakedProject, tmp_path: Path) -> None:
    """Without code of ours, a logger receives the same metrics as ours do."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train(project, tmp_path / "run", "logger=[lightning,csv]", *SHORT)
    table, ours = (
        [row["val/acc"] for row in csv.DictReader(file.open(newline="")) if row["val/acc"]]
        for file in (*run.folder.glob("table/*/metrics.csv"), run.folder / "csv" / "metrics.csv")
    )
    assert len(ours) == 2
    assert [float(value) for value in table] == pytest.approx([float(value) for value in ours])
    (folder,) = run.folder.glob("curves/*")
    curves = EventAccumulator(str(folder)).Reload().Scalars("val/acc")
    assert [event.value for event in curves] == pytest.approx([float(value) for value in ours])


def test_comet(project: BakedProject, tmp_path: Path) -> None:
    """A run without a connection is complete in the archive that is uploaded later."""
    require("comet_ml")
    folder = tmp_path / "run"
    place = f"hydra.run.dir={folder}"
    done = project.run(
        *("python", "train.py", place, "logger=[comet,csv]", *SHORT),
        COMET_START_ONLINE="0",
        CUDA_VISIBLE_DEVICES="",
    )
    (archive,) = (folder / "comet").glob("*.zip")
    assert archive.name in done.stdout + done.stderr
    messages = zipfile.ZipFile(archive).read("messages.json").decode().splitlines()
    metrics = [
        m["payload"]["metric"] for m in map(json.loads, messages) if "metric" in m["payload"]
    ]
    logged = [float(m["metricValue"]) for m in metrics if m["metricName"] == "val/acc"]
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        ours = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert logged == pytest.approx(ours)


def test_trackio(project: BakedProject, tmp_path: Path) -> None:
    """A tool without a class for Lightning needs forty lines."""
    require("trackio")
    folder = tmp_path / "run"
    project.run(
        *("python", "train.py", f"hydra.run.dir={folder}", "logger=[trackio,csv]", *SHORT),
        TRACKIO_DIR=str(tmp_path / "trackio"),
        CUDA_VISIBLE_DEVICES="",
    )
    (database,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select step, metrics from metrics order by step").fetchall()
    logged = [json.loads(text) for _, text in rows]
    values = [metrics["val/acc"] for metrics in logged if "val/acc" in metrics]
    with (folder / "csv" / "metrics.csv").open(newline="") as file:
        ours = [float(row["val/acc"]) for row in csv.DictReader(file) if row["val/acc"]]
    assert values == pytest.approx(ours)
    assert any("test/acc" in metrics for metrics in logged)
