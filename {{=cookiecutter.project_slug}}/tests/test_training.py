"""Training, resuming, loading and predicting, on the data of the default experiment."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from workbench import load_run
from workbench.evaluation import evaluate
from workbench.prediction import predict

Configure = Callable[..., DictConfig]
Package = Callable[[str], Any]
SHORT = ("trainer=cpu", "trainer.max_epochs=2", "logger=none", "compile=false")


@pytest.fixture
def cfg(configure: Configure) -> DictConfig:
    """A short run of the default experiment."""
    return configure("train", *SHORT)


def weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint, read as every user reads them."""
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_run_writes_its_files(package: Package, cfg: DictConfig) -> None:
    """A run writes a log, a manifest, its config, checkpoints and a plot."""
    metrics = package("training").train(cfg)
    run = Path(cfg.paths.output_dir)
    for name in ("config.yaml", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (run / name).is_file()
    assert (run / "figures" / "loss.png").stat().st_size > 5_000
    manifest = json.loads((run / "run.json").read_text("utf-8"))
    assert manifest["status"] == "finished"
    assert {"best", "final", "test"} <= set(manifest["metrics"])
    assert manifest["metrics"]["test"]["test/loss"] == metrics["test/loss"]


def test_resumed_run_equals_uninterrupted_run(
    package: Package, configure: Configure, tmp_path: Path
) -> None:
    """A job that is interrupted after an epoch must not end with different weights."""
    train = package("training").train
    overrides = [*SHORT, "scheduler=constant", "callbacks.early_stopping=null", "test=false"]
    whole, part = configure("train", *overrides), configure("train", *overrides)
    train(whole)
    expected = weights(tmp_path / "run" / "checkpoints" / "last.ckpt")
    part.paths.output_dir = str(tmp_path / "part")
    part.trainer.max_epochs = 1
    train(part)
    part.ckpt_path = str(tmp_path / "part" / "checkpoints" / "last.ckpt")
    part.paths.output_dir = str(tmp_path / "resumed")
    part.trainer.max_epochs = 2
    train(part)
    resumed = weights(tmp_path / "resumed" / "checkpoints" / "last.ckpt")
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_loaded_run_scores_as_after_training(package: Package, cfg: DictConfig) -> None:
    """A notebook that loads a run must see the model that was tested."""
    tested = package("training").train(cfg)
    run = load_run(cfg.paths.output_dir)
    total, samples = 0.0, 0
    with torch.no_grad():
        for x, y in run.datamodule.test_dataloader():
            total += float(run.model.loss(run.model.net(x), y)) * len(y)
            samples += len(y)
    assert total / samples == pytest.approx(tested["test/loss"], rel=1e-4)
    assert run.config.seed == cfg.seed


def test_evaluation_repeats_the_test(
    package: Package, cfg: DictConfig, configure: Configure, tmp_path: Path
) -> None:
    """evaluate.py on a checkpoint repeats the metrics of the training, and draws plots."""
    tested = package("training").train(cfg)
    evaluation = configure(
        "evaluate", "trainer=cpu", f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}"
    )
    evaluation.paths.output_dir = str(tmp_path / "evaluation")
    metrics = evaluate(evaluation)
    assert metrics["test/loss"] == pytest.approx(tested["test/loss"], rel=1e-6)
    plots = list((tmp_path / "evaluation" / "figures").glob("*.png"))
    assert plots and all(plot.stat().st_size > 5_000 for plot in plots)


def test_bad_inputs_are_predicted_as_errors(
    package: Package, cfg: DictConfig, configure: Configure, tmp_path: Path
) -> None:
    """An input that cannot be read is kept in the table, with the reason."""
    package("training").train(cfg)
    folder = tmp_path / "inputs"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"not an image")
    table = tmp_path / "predictions.csv"
    checkpoint = tmp_path / "run" / "checkpoints" / "best.ckpt"
    run = load_run(cfg.paths.output_dir)
    if run.model.hparams["preprocessing"]["kind"] != "image":
        pytest.skip("the default experiment does not read images")
    prediction = configure(
        "predict", f"ckpt_path={checkpoint}", f"input={folder}", f"output={table}"
    )
    predict(prediction)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [row["input"] for row in rows] == ["broken.png"]
    assert rows[0]["error"] and not rows[0]["prediction"]
