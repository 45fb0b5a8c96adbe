"""Every logger gets the numbers, alone and together with others, and none is needed."""

import csv
import json
import re
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..conftest import ROOT, BakedProject
from ..support.training_runs import TrainedRun, train
from .conftest import Package, Train

SHORT = ("trainer.max_epochs=3",)
COMMANDS = {
    "several": ("logger=[tensorboard,csv]", *SHORT),
    "none": ("logger=none", *SHORT),
    "wandb": ("logger=wandb", *SHORT),
    "mlflow": ("logger=mlflow", *SHORT),
}
Runs = dict[str, "Future[TrainedRun]"]


@pytest.fixture(scope="module")
def runs(
    demo: BakedProject, side_by_side: ThreadPoolExecutor, tmp_path_factory: pytest.TempPathFactory
) -> Runs:
    folder = tmp_path_factory.mktemp("logged")
    started = {}
    place = f"paths.log_dir={folder}"
    for name, options in COMMANDS.items():
        if name in ("wandb", "mlflow") and not is_installed(name):
            continue
        started[name] = side_by_side.submit(train, demo, folder / name, *options, place)
    return started


def is_installed(name: str) -> bool:
    """Whether there is such a package."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def events(run: TrainedRun) -> Any:
    """What TensorBoard reads from a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run.folder / "tensorboard")).Reload()


def scalars(run: TrainedRun, tag: str) -> list[float]:
    """The values of a curve."""
    return [event.value for event in events(run).Scalars(tag)]


def test_tensorboard_has_the_curves(digits: TrainedRun) -> None:
    """One point an epoch for metrics, one every ten steps for loss and rate, and the plot."""
    accuracies = scalars(digits, "val/acc")
    assert len(accuracies) == 20
    assert max(accuracies) == pytest.approx(digits.metrics["best"]["val/acc"])
    assert len(scalars(digits, "train/loss_step")) == 38
    rates = scalars(digits, "lr")
    assert max(rates) == pytest.approx(0.002, rel=0.01)
    assert rates[-1] < 1e-5
    assert "loss" in events(digits).Tags()["images"]


def test_tensorboard_has_one_record_per_step(digits: TrainedRun) -> None:
    """Thousands of small records make TensorBoard slow; and none of what waits may be lost."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[int, list[set[str]]] = {}
    for file in sorted((digits.folder / "tensorboard").glob("events*")):
        for event in EventFileLoader(str(file)).Load():
            tags = {value.tag for value in event.summary.value}
            if tags and not any(tag.startswith(("_hparams_", "test/")) for tag in tags):
                found.setdefault(event.step, []).append(tags)
    steps = {10, 20, 370}
    assert [found[step] for step in steps] == [[{"lr", "train/loss_step", "grad/norm"}]] * 3
    # At the end of an epoch Lightning logs its own metrics at the number of steps before the last.
    last, measured = found[19]
    assert {"grad_layers/net.features.0.0", "grad_layers/net.head.1"} <= last
    assert {"hp/best_val_acc", "time/epoch_seconds", "device/memory_gb"} <= measured
    assert [{"val/loss", "train/loss"} & tags for tags in found[18]] == [
        {"val/loss"},
        {"train/loss"},
    ]


def test_tensorboard_knows_when_a_point_was_measured(package: Package, tmp_path: Path) -> None:
    """A point that waits for the next step, for minutes, was not measured then."""
    import time

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = package("loggers.tensorboard").TensorBoardLogger(tmp_path, name="", version="x")
    before = time.time()
    logger.log_metrics({"a": 1.0}, step=1)
    logger.log_metrics({"b": 2.0}, step=1)
    after = time.time()
    time.sleep(0.3)
    logger.log_metrics({"a": 3.0}, step=2)
    logger.finalize("failed")
    read = EventAccumulator(str(tmp_path / "x")).Reload()
    first, second = read.Scalars("a")
    assert (first.step, first.value, second.step, second.value) == (1, 1.0, 2, 3.0)
    assert before <= first.wall_time == read.Scalars("b")[0].wall_time <= after


def test_tensorboard_has_a_row_of_hyperparameters(digits: TrainedRun) -> None:
    """The HPARAMS table compares runs by their best value; Lightning's own column stays at -1."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = events(digits).summary_metadata
    contents = {
        tag: HParamsPluginData.FromString(found[tag].plugin_data.content)
        for tag in found
        if tag.startswith("_hparams_/")
    }
    columns = [info.name.tag for info in contents["_hparams_/experiment"].experiment.metric_infos]
    assert columns == ["hp/best_val_acc"]
    row = contents["_hparams_/session_start_info"].session_start_info.hparams
    assert row["optimizer/lr"].number_value == pytest.approx(0.002)
    assert row["model/net/name"].string_value == "cnn"
    assert row["seed"].number_value == 42
    best = digits.metrics["best"]["val/acc"]
    assert scalars(digits, "hp/best_val_acc")[-1] == pytest.approx(best)
    assert "hp_metric" not in events(digits).Tags()["scalars"]


def test_several_loggers_get_the_same(runs: Runs) -> None:
    """A CSV file beside TensorBoard, for the plot in the paper."""
    run = runs["several"].result()
    with (run.folder / "csv" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row["val/acc"]) for row in rows if row["val/acc"]]
    assert accuracies == pytest.approx(scalars(run, "val/acc"), rel=1e-5)
    assert accuracies[-1] == pytest.approx(run.metrics["final"]["val/acc"], rel=1e-5)
    assert len(accuracies) == 3


def test_no_other_module_names_a_logger() -> None:
    """Each logger is deleted with one file and its config; wandb and mlflow are imported there."""
    library = ROOT / "{{=cookiecutter.project_slug}}" / "workbench"
    modules = {path.stem for path in (library / "loggers").glob("*.py")} - {"__init__", "base"}
    assert modules == {"csv_file", "mlflow", "tensorboard", "wandb"}
    named = re.compile(rf"loggers\.({'|'.join(modules)})\b|(from|import) (wandb|mlflow)\b")
    for path in library.rglob("*.py"):
        if path.stem not in modules:
            assert not named.search(path.read_text("utf-8")), path


def test_no_logger_is_needed(runs: Runs) -> None:
    """Log, manifest, plot and checkpoints are the project's own."""
    run = runs["none"].result()
    files = {path.relative_to(run.folder).as_posix() for path in run.folder.rglob("*.*")}
    assert files == {
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "config.yaml",
        "figures/loss.png",
        "run.json",
        "run.log",
    }


def test_wandb_writes_a_run_to_be_sent_later(runs: Runs) -> None:
    """Without an account nothing is asked and nothing is lost."""
    pytest.importorskip("wandb")
    run = runs["wandb"].result()
    (file,) = run.folder.glob("wandb/offline-run-*/run-*.wandb")
    assert b"val/acc" in file.read_bytes()
    assert list(file.parent.glob("files/media/images/loss_*.png"))
    assert run.manifest["status"] == "finished"


def test_mlflow_writes_into_one_file(runs: Runs) -> None:
    """All runs lie in logs/mlflow.db, with parameters, curves and the end of the run."""
    mlflow = pytest.importorskip("mlflow")
    run = runs["mlflow"].result()
    client = mlflow.MlflowClient(f"sqlite:///{run.folder.parent}/mlflow.db")
    (experiment,) = (e for e in client.search_experiments() if e.name == "demo")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert json.loads(logged.data.params["optimizer/lr"]) == 0.002
    final = run.metrics["final"]["val/acc"]
    assert logged.data.metrics["val/acc"] == pytest.approx(final, abs=1e-5)
    assert len(client.get_metric_history(logged.info.run_id, "val/acc")) == 3
    assert not Path(run.folder / "mlruns").exists()
    assert [file.path for file in client.list_artifacts(logged.info.run_id, "figures")] == [
        "figures/loss.png"
    ]


def test_tensorboard_has_everything(train_here: Train, digits: TrainedRun) -> None:
    """The tabs that a user opens are not empty."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tensorboard = EventAccumulator(str(digits.folder / "tensorboard")).Reload()
    scalars = set(tensorboard.Tags()["scalars"])
    assert {"grad/norm", "time/samples_per_second", "device/memory_gb"} <= scalars
    texts = {
        name.removesuffix("/text_summary"): tensorboard.Tensors(name)[0].tensor_proto.string_val[0]
        for name in tensorboard.Tags()["tensors"]
    }
    assert b"| net.features.0.0 | Conv2d(1, 32" in texts["model"]
    assert digits.manifest["packages"]["torch"].encode() in texts["environment"]
    assert digits.manifest["git"]["commit"].encode() in texts["environment"]
    assert b"seed: 42" in texts["config"]

    folder = train_here(
        "histograms", "callbacks=[default,histograms]", "logger=tensorboard", "trainer.max_epochs=2"
    )
    all_of_them = {"histograms": 0}
    tensorboard = EventAccumulator(str(folder / "tensorboard"), all_of_them).Reload()
    for kind in ("parameters", "gradients"):
        drawn = tensorboard.Histograms(f"{kind}/net.head.1.weight")
        assert [event.step for event in drawn] == [5, 10]
        assert all(event.histogram_value.num == 640 for event in drawn)


def test_lightnings_own_logger_gets_what_it_can(
    train_here: Train, caplog: pytest.LogCaptureFixture
) -> None:
    """A logger that is not ours lacks the methods for images, texts and histograms."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train_here(
        "foreign",
        "callbacks=[default,histograms]",
        "logger=tensorboard",
        "logger.tensorboard._target_=pytorch_lightning.loggers.TensorBoardLogger",
        "trainer.max_epochs=1",
    )
    tags = EventAccumulator(str(folder / "tensorboard")).Reload().Tags()
    assert {"val/acc", "lr", "grad/norm", "time/epoch_seconds"} <= set(tags["scalars"])
    assert tags["images"] == tags["histograms"] == []
    assert "callbacks.histograms needs TensorBoard" in caplog.text
    assert (folder / "figures" / "loss.png").is_file()


def test_long_texts_are_in_the_file_and_not_on_the_console(digits: TrainedRun) -> None:
    """The log, or run.json, tells alone what ran; the console stays readable."""
    line = "| net.features.0.0 | Conv2d(1, 32"
    assert line in digits.log
    assert "weight_decay: 0.01" in digits.log
    assert line not in digits.printed.stdout
    model = digits.manifest["model"]
    assert model["parameters"] == sum(layer["parameters"] for layer in model["layers"]) > 10_000
    first, *_ = model["layers"]
    assert (first["name"], first["parameters"]) == ("net.features.0.0", 288)
