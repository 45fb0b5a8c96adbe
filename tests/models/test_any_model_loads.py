"""Plain Lightning code is evaluated, predicted with and loaded: what checkpoints are for."""

import csv
import importlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf, open_dict

from ..conftest import Bake
from ..support.in_process import Project, on_one_thread

# The user's models and data, which know nothing of the project.
POINTS = Path(__file__).parents[1] / "support" / "points_to_load.py"
SEQUENTIAL = {
    "_target_": "torch.nn.Sequential",
    "_args_": [
        {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 3},
        {"_target_": "torch.nn.Tanh"},
    ],
}
GROUPS = ("model", "data", "trainer", "objective")
ADAM = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.1}


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Loading").root
    shutil.copy(POINTS, root / "points.py")
    with on_one_thread(root, tmp_path_factory.mktemp("runs")) as project:
        yield project


Make = Callable[..., Path]


@pytest.fixture(scope="module")
def run(project: Project) -> Make:
    """Trains a model of the owner's once, and returns the folder of the run."""
    made: dict[str, Path] = {}

    def make(model: str, data: str = "PointData", **options: Any) -> Path:
        key = json.dumps([model, data, options], sort_keys=True)
        if key not in made:
            folder = project.folder / f"run{len(made)}"
            nodes: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
            nodes["model"]["_target_"] = f"points.{model}"
            nodes["data"]["_target_"] = f"points.{data}"
            for name, value in options.items():
                group, _, option = name.partition("__")
                nodes[group][option] = value
            fit(project, folder, nodes)
            made[key] = folder
        return made[key]

    return make


def fit(project: Project, folder: Path, nodes: dict[str, dict[str, Any]]) -> None:
    """Train as `train.py` does, with a config file each for model and data."""
    words = ("~experiment", "trainer=cpu", "logger=none", "objective.metric=null")
    cfg = project.configure("train", folder, *words, "trainer.max_epochs=2")
    with open_dict(cfg):
        cfg.model, cfg.data = nodes["model"], nodes["data"]
        cfg.trainer.update(nodes["trainer"])
        cfg.objective.update(nodes["objective"])
    project.module("training").train(cfg)


def evaluate(project: Project, folder: Path, *options: str, split: str = "test") -> Any:
    """Evaluate the checkpoint that the run has tested; metrics and the folder."""
    out = folder / f"evaluation-{len(list(folder.glob('evaluation-*')))}"
    name = "best" if (folder / "checkpoints" / "best.ckpt").is_file() else "last"
    words = (
        f"ckpt_path={folder / 'checkpoints' / name}.ckpt",
        f"split={split}",
        "trainer=cpu",
        *options,
    )
    cfg = project.configure("evaluate", out, *words)
    return project.module("evaluation").evaluate(cfg), out


def predict(project: Project, folder: Path, *options: str) -> Path:
    """Predict with the last checkpoint of a run; the folder with the file."""
    out = folder / f"prediction-{len(list(folder.glob('prediction-*')))}"
    words = (f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", f"output={out / 'table.csv'}")
    cfg = project.configure("predict", out, "trainer=cpu", *words, *options)
    project.module("prediction").predict(cfg)
    return out


def metrics_of(folder: Path) -> dict[str, float]:
    manifest = json.loads((folder / "run.json").read_text("utf-8"))
    metrics: dict[str, float] = manifest["metrics"]["test"]
    return metrics


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# evaluate.py


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("Tutorial", {}),
        ("Tutorial", {"data__form": "dict"}),
        ("Tutorial", {"data__tests": 2}),
        ("Noisy", {}),
        ("Late", {"objective__metric": "val-loss"}),
        ("Given", {"model__net": SEQUENTIAL, "model__optimizer": ADAM}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_evaluation_repeats_the_test_of_any_model(
    project: Project, run: Make, model: str, options: dict[str, Any]
) -> None:
    """Whatever its metrics are called, and wherever its network comes from."""
    folder = run(model, **options)
    metrics, out = evaluate(project, folder)
    assert metrics == metrics_of(folder)
    assert len(metrics) == 2 * options.get("data__tests", 1)
    assert json.loads((out / "metrics.json").read_text())["metrics"]["test"] == metrics
    assert (out / "figures" / "pca.png").stat().st_size > 1000


def test_evaluation_repeats_the_limits_and_the_precision_of_the_run(
    project: Project, run: Make
) -> None:
    """The first two batches of a quick run are not the whole split."""
    folder = run("Tutorial", trainer__limit_test_batches=1, trainer__precision="bf16-true")
    metrics, _ = evaluate(project, folder, "analyses=[]")
    assert metrics == metrics_of(folder)
    whole, _ = evaluate(project, folder, "analyses=[]", "trainer.limit_test_batches=1.0")
    assert whole != metrics


def test_what_cannot_be_measured_is_told_before_anything_runs(project: Project, run: Make) -> None:
    user_error = project.module("errors").UserError
    with pytest.raises(user_error, match=r"Untested has no test_step.*split=val"):
        evaluate(project, run("Untested"))
    assert "val_acc" in evaluate(project, run("Untested"), split="val")[0]
    with pytest.raises(user_error, match="TrainOnly has no test_dataloader"):
        evaluate(project, run("Tutorial", "TrainOnly"))


def test_model_with_predictions_of_its_own_is_evaluated(project: Project, run: Make) -> None:
    """Analyses that expect probabilities are left out, and the others are made."""
    net = {"name": "mlp", "width": 4, "depth": 1}
    folder = run("Named", "WithVocabulary", model__net=net)
    metrics, out = evaluate(project, folder)
    assert metrics == pytest.approx(metrics_of(folder))
    assert {path.stem for path in out.glob("*/*")} == {"pca"}
    rows = read_csv(predict(project, folder) / "table.csv")
    assert list(rows[0]) == ["best"]


# predict.py


def test_predictions_of_the_predict_loader_are_rows(project: Project, run: Make) -> None:
    """Every column of what predict_step returned, with all digits, and nothing else."""
    folder = run("Answer", "WithPredictLoader", data__form="dict")
    rows = read_csv(predict(project, folder) / "table.csv")
    assert list(rows[0]) == ["id", "best", "scores_0", "scores_1", "scores_2"]
    assert [row["id"] for row in rows] == [f"point, {place}" for place in range(40)]
    points = importlib.import_module("points")
    model = project.module("loading").load_model(folder / "checkpoints" / "last.ckpt")
    with torch.no_grad():
        scores = model.layer(points.Points(9).x).double().numpy()
    found = np.array([[float(row[f"scores_{place}"]) for place in range(3)] for row in rows])
    np.testing.assert_allclose(found, scores, rtol=1e-5)
    assert [int(row["best"]) for row in rows] == scores.argmax(axis=1).tolist()


def test_predictions_on_the_test_split_where_there_is_no_predict_loader(
    project: Project, run: Make, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run("Answer", data__form="dict", data__tests=2)
    with caplog.at_level("INFO"):
        rows = read_csv(predict(project, folder) / "table.csv")
    assert "predicting on the test split" in caplog.text
    assert [row["dataloader_idx"] for row in rows] == ["0"] * 40 + ["1"] * 40


def test_predictions_that_are_no_rows_are_saved_as_they_are(project: Project, run: Make) -> None:
    """And can be read without running anything."""
    out = predict(project, run("Boxes"))
    assert [path.name for path in out.iterdir()] == ["table.pt"]
    batches = torch.load(out / "table.pt", weights_only=True)
    assert [len(batch) for batch in batches] == [2, 2, 2]
    first, whole = batches[0]
    assert first["name"] == "first"
    assert torch.equal(first["corners"], whole["corners"][:2])


def test_what_cannot_be_predicted_is_told(project: Project, run: Make) -> None:
    user_error = project.module("errors").UserError
    with pytest.raises(user_error, match="Tutorial has no predict_step, so Lightning passed"):
        predict(project, run("Tutorial"))
    with pytest.raises(user_error, match="neither predict_dataloader nor test_dataloader"):
        predict(project, run("Tutorial", "TrainOnly"))
    with pytest.raises(user_error, match="leave input out"):
        predict(project, run("Tutorial"), "input=.")


# Loading


def test_run_of_any_model_loads_in_a_notebook(project: Project, run: Make) -> None:
    """With its weights, its data, and the facts that its constructor was given."""
    folder = run("Given", "WithPredictLoader", model__net=SEQUENTIAL, model__optimizer=ADAM)
    loaded = project.module("loading").load_run(folder)
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert loaded.model.num_classes == 3
    assert all(torch.equal(loaded.model.state_dict()[k], v) for k, v in saved["state_dict"].items())
    assert not loaded.model.training
    assert len(loaded.datamodule.val_dataloader().dataset) == 40


def test_facts_that_no_checkpoint_holds_come_from_the_data(project: Project, run: Make) -> None:
    """Such as a tokenizer."""
    folder = run("Told", "WithVocabulary")
    assert evaluate(project, folder)[0] == metrics_of(folder)


def test_layers_that_need_a_trainer_are_told(project: Project, run: Make) -> None:
    """Without them a notebook would go on with random weights."""
    folder = run("Late", objective__metric="val-loss")
    with pytest.raises(project.module("errors").UserError, match=r"layer\.weight.*setup"):
        project.module("loading").load_run(folder)


def test_weights_of_a_compiled_network_load(project: Project, run: Make, tmp_path: Path) -> None:
    """torch.compile puts `_orig_mod.` into their names."""
    folder = run("Tutorial")
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    weights = {key.replace("layer", "layer._orig_mod"): v for key, v in saved["state_dict"].items()}
    (tmp_path / "checkpoints").mkdir()
    torch.save(saved | {"state_dict": weights}, tmp_path / "checkpoints" / "last.ckpt")
    (tmp_path / "config.yaml").write_text((folder / "config.yaml").read_text())
    load = project.module("loading").load_model
    model = load(tmp_path / "checkpoints" / "last.ckpt")
    assert torch.equal(model.layer[0].weight, saved["state_dict"]["layer.0.weight"])
    del weights["layer._orig_mod.2.bias"]
    torch.save(saved | {"state_dict": weights}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(project.module("errors").UserError, match=r"layer\.2\.bias is missing"):
        load(tmp_path / "checkpoints" / "last.ckpt")


def test_moved_checkpoint_of_a_foreign_model_is_told(
    project: Project, run: Make, tmp_path: Path
) -> None:
    """A checkpoint alone never selects code outside the package."""
    moved = tmp_path / "mailed.ckpt"
    os.link(run("Tutorial") / "checkpoints" / "last.ckpt", moved)
    with pytest.raises(project.module("errors").UserError, match="move it back beside"):
        project.module("loading").load_model(moved)


@pytest.mark.parametrize("group", ["model", "data", "optimizer"])
def test_config_of_a_run_that_names_a_command_is_refused(
    project: Project, run: Make, tmp_path: Path, group: str
) -> None:
    """By evaluate.py, predict.py, export.py and load_run, and it is not run."""
    folder, mark = run("Answer", data__form="dict"), tmp_path / "executed"
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "last.ckpt"
    os.link(folder / "checkpoints" / "last.ckpt", path)
    config: Any = OmegaConf.load(folder / "config.yaml")
    config[group] = {"_target_": "os.mkdir", "path": str(mark)}
    OmegaConf.save(config, tmp_path / "config.yaml")
    user_error = project.module("errors").UserError
    for command in (
        lambda: evaluate(project, tmp_path),
        lambda: predict(project, tmp_path),
        lambda: project.module("loading").load_run(tmp_path),
    ):
        with pytest.raises(user_error, match=r"names os.mkdir .*trust_config=true"):
            command()
    assert not mark.exists()
    if group == "data":
        with pytest.raises(Exception, match=r"LightningDataModule|NoneType"):
            evaluate(project, tmp_path, "trust_config=true")
        assert mark.exists(), "the trap does not work"


# export.py and serve.py


def test_forward_of_any_model_is_exported(project: Project, run: Make, tmp_path: Path) -> None:
    """If it takes one tensor, with batches of any size."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, output = run("Tutorial"), tmp_path / "model.onnx"
    words = (f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}", f"output={output}")
    project.module("exporting").export(project.configure("export", tmp_path, *words))
    model = project.module("loading").load_model(folder / "checkpoints" / "last.ckpt")
    session = runtime.InferenceSession(output)
    for size in (1, 5):
        x = torch.randn(size, 2)
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(found, model(x).detach().numpy(), atol=1e-6)


def test_what_cannot_be_exported_or_served_is_told(
    project: Project, run: Make, tmp_path: Path
) -> None:
    pytest.importorskip("onnxscript")
    user_error = project.module("errors").UserError
    folder = run("Tutorial", data__form="dict")
    words = (f"ckpt_path={folder / 'checkpoints' / 'last.ckpt'}",)
    export = project.module("exporting").export
    with pytest.raises(user_error, match="does not begin with a tensor"):
        export(project.configure("export", tmp_path, *words, f"output={tmp_path / 'x.onnx'}"))
    assert list(tmp_path.iterdir()) == []
    pytest.importorskip("fastapi")
    with pytest.raises(user_error, match="Tutorial that does not know how a file becomes its"):
        project.module("serving").serve(project.configure("serve", tmp_path, *words))
