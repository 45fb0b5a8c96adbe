"""Labels, several targets and quantiles: each output has its column in every file."""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ..conftest import Bake
from ..support.in_process import Project, on_one_thread

ROWS = 120
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 2))
COLUMNS: dict[str, NDArray[Any]] = {
    "x0": X[:, 0],
    "x1": X[:, 1],
    "sunny": (X[:, 0] > 0).astype(int),
    "windy": (X[:, 1] > 0.5).astype(int),
    "price": 1e6 + 1e3 * X[:, 0] + RNG.normal(size=ROWS),
    "age": 40 + X[:, 1] + 0.1 * RNG.normal(size=ROWS),
}
QUANTILES = "model.loss.name=quantile", "model.loss.quantiles=[0.1,0.5,0.9]"
# Targets, options and the columns of predictions.
CASES = {
    "labels": (["sunny", "windy"], (), ["prediction", "p(sunny)", "p(windy)"]),
    "targets": (["price", "age"], (), ["price", "age"]),
    "quantiles": (["price"], QUANTILES, ["price_q0.1", "price_q0.5", "price_q0.9"]),
    "both": (
        ["price", "age"],
        QUANTILES,
        [f"{name}_q{level}" for name in ("price", "age") for level in (0.1, 0.5, 0.9)],
    ),
}


@dataclass(frozen=True)
class Trained:
    """A project and the best checkpoint of a run in it."""

    project: Project
    checkpoint: Path

    def command(self, name: str, folder: Path, *options: str) -> Any:
        """The config of a command for the checkpoint."""
        words = (f"ckpt_path={self.checkpoint}", *options)
        return self.project.configure(name, folder, *words)

    def model(self) -> Any:
        """The model of the checkpoint."""
        return self.project.module("loading").load_model(self.checkpoint)

    def expected(self, rows: NDArray[Any]) -> NDArray[Any]:
        """What the model's own network says about rows of x0 and x1, in the targets' units."""
        model = self.model()
        fitted = {c["name"]: c for c in model.hparams["preprocessing"]["columns"]}
        mean, std = ([fitted[f"x{i}"][name] for i in range(2)] for name in ("mean", "std"))
        x = torch.from_numpy((rows - mean) / std).float()
        with torch.no_grad():
            found: NDArray[Any] = model.in_target_unit(model(x)).numpy()
        return found


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    root = bake(project_name="Answering").root
    table = "\n".join(",".join(map(str, row)) for row in zip(*COLUMNS.values(), strict=True))
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "table.csv").write_text(",".join(COLUMNS) + "\n" + table + "\n")
    with on_one_thread(root, tmp_path_factory.mktemp("runs")) as project:
        yield project


@pytest.fixture(scope="module")
def trained(project: Project) -> Callable[[str], Trained]:
    """A run of each case, trained when it is first asked for."""
    done: dict[str, Trained] = {}

    def train(case: str) -> Trained:
        if case not in done:
            targets, options, _ = CASES[case]
            kind = "mlp" if case == "labels" else "mlp_regressor"
            left_out = [name for name in COLUMNS if name[0] != "x" and name not in targets]
            folder = project.folder / case
            cfg = project.configure(
                "train",
                folder,
                "~experiment",
                "data=csv",
                f"data.target=[{','.join(targets)}]",
                f"data.drop=[{','.join(left_out)}]",
                f"model={kind}",
                "model.net.width=8",
                "trainer=cpu",
                "trainer.max_epochs=2",
                "logger=none",
                *options,
            )
            project.module("training").train(cfg)
            done[case] = Trained(project, folder / "checkpoints" / "best.ckpt")
        return done[case]

    return train


def read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return list(rows[0]), rows


def numbers(rows: list[dict[str, str]], names: list[str]) -> NDArray[Any]:
    return np.array([[float(row[name]) for name in names] for row in rows])


@pytest.mark.parametrize("case", CASES)
def test_new_rows_have_a_column_for_each_output(
    trained: Callable[[str], Trained], case: str, tmp_path: Path
) -> None:
    """In the target's unit, and the labels that apply in words."""
    run, names = trained(case), CASES[case][2]
    new = tmp_path / "new.csv"
    new.write_text("x0,x1\n" + "\n".join(f"{a},{b}" for a, b in X[:20].tolist()))
    output = f"output={tmp_path / 'table.csv'}"
    predict = run.project.module("prediction").predict
    predict(run.command("predict", tmp_path, f"input={new}", output))
    header, rows = read(tmp_path / "table.csv")
    assert header == ["input", *names, "error"]
    values = [name for name in names if name != "prediction"]
    expected = run.expected(X[:20])
    np.testing.assert_allclose(numbers(rows, values), expected.reshape(20, len(values)), rtol=1e-6)
    if case == "labels":
        said = [";".join(np.array(["sunny", "windy"])[row >= 0.5]) for row in expected]
        assert [row["prediction"] for row in rows] == said


@pytest.mark.parametrize("case", CASES)
def test_loader_has_the_same_columns_as_new_rows(
    trained: Callable[[str], Trained], case: str, tmp_path: Path
) -> None:
    """Two commands with two namings would have to be joined by hand."""
    run, names = trained(case), CASES[case][2]
    predict = run.project.module("prediction").predict
    output = f"output={tmp_path / 'table.csv'}"
    predict(run.command("predict", tmp_path, "trainer=cpu", output))
    header, rows = read(tmp_path / "table.csv")
    assert header == names
    loader = run.project.module("loading").load_run(run.checkpoint.parents[1]).datamodule
    x = torch.cat([x for x, _ in loader.test_dataloader()])
    model, values = run.model(), [name for name in names if name != "prediction"]
    with torch.no_grad():
        expected = model.in_target_unit(model(x)).numpy()
    np.testing.assert_allclose(numbers(rows, values), expected.reshape(len(x), -1), rtol=1e-6)


@pytest.mark.parametrize("case", ["labels", "both"])
def test_evaluation_repeats_the_test_and_adds_what_applies(
    trained: Callable[[str], Trained], case: str, tmp_path: Path
) -> None:
    """A plot for one class or one target would break on several."""
    run = trained(case)
    evaluate = run.project.module("evaluation").evaluate
    metrics = evaluate(run.command("evaluate", tmp_path, "trainer=cpu"))
    manifest = json.loads((run.checkpoint.parents[1] / "run.json").read_text("utf-8"))
    assert metrics == pytest.approx(manifest["metrics"]["test"], abs=1e-6)
    made = {path.stem for path in tmp_path.glob("*/*")}
    assert (
        made
        == {"labels": {"classes", "losses", "pca"}, "both": {"losses", "residuals", "pca"}}[case]
    )
    header, rows = read(tmp_path / "tables" / "losses.csv")
    mean = np.mean([float(row["loss"]) for row in rows])
    assert mean == pytest.approx(metrics["test/loss"], rel=1e-4)
    if case == "both":
        assert header[1:3] == ["true price", "true age"]
        error = numbers(rows, ["predicted price"]) - numbers(rows, ["true price"])
        assert np.abs(error).mean() > 1  # in the target's own unit


@pytest.mark.parametrize("case", ["labels", "both"])
def test_exported_file_has_all_outputs(
    trained: Callable[[str], Trained], case: str, tmp_path: Path
) -> None:
    """And says which column is which."""
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run, names = trained(case), CASES[case][2]
    output = tmp_path / "model.onnx"
    run.project.module("exporting").export(run.command("export", tmp_path, f"output={output}"))
    session = runtime.InferenceSession(output)
    told = json.loads(session.get_modelmeta().custom_metadata_map["output_names"])
    assert told == (["sunny", "windy"] if case == "labels" else names)
    assert session.get_outputs()[0].shape[1] == len(told)
