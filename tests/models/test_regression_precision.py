"""Regression on targets far from zero, or of tiny or huge scale: nothing may be lost to float32."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import mean_absolute_error, r2_score

from ..support.template_package import Part

Numbers = NDArray[np.float64]

ROWS = 240
# Mean and standard deviation, up to a ratio of 1e13; the sixteen digits of float64 hold them all.
TARGETS = {
    "1 +- 1": (1, 1),
    "10 +- 1": (10, 1),
    "100 +- 1": (100, 1),
    "1,000 +- 1": (1e3, 1),
    "10,000 +- 1": (1e4, 1),
    "100,000 +- 1": (1e5, 1),
    "a million +- 1": (1e6, 1),
    "ten million +- 1": (1e7, 1),
    "air pressure in Pa": (101_325, 30),
    "seconds since 1970": (1.7e9, 600),
    "negative": (-1e7, 1),
    "a billion and a small signal": (1e9, 1e-3),
    "zero mean": (0, 1),
    "tiny": (1e-12, 1e-12),
    "tiny scale": (0.5, 1e-8),
    "tiny, far from zero": (1e-6, 1e-12),
    "square underflows": (1e-170, 1e-175),
    "huge": (3e30, 1e30),
    "huge, far from zero": (1e36, 1e30),
    "money": (1_234_567.89, 250_000),
}


def rows_of(mean: float, std: float) -> tuple[Numbers, Numbers]:
    """Inputs (N, 2), and a target that they explain for the most part."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 2))
    signal = 0.9 * x[:, 0] + 0.3 * x[:, 1] + 0.3 * rng.normal(size=ROWS)
    return x, mean + std * signal


def make_data(package: Part, x: Numbers, target: Numbers) -> Any:
    """A datamodule of an own table, set up."""
    arrays = package("data.tables")

    class Own(arrays.TableDataModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            options = {"batch_size": 32, "val_fraction": 0.25, "test_fraction": 0.25}
            self.save_hyperparameters(options | {"split_seed": 42}, logger=False)

        def read(self) -> Any:
            return arrays.TableArrays({"a": x[:, 0], "b": x[:, 1]}, target, "target")

    data = Own()
    data.setup()
    return data


def make_model(package: Part, data: Any) -> Any:
    torch.manual_seed(0)
    return package("models").Regressor(
        net={"name": "mlp", "width": 8, "depth": 1},
        optimizer={"name": "AdamW", "lr": 0.02},
        scheduler={"name": "constant"},
        **data.describe(),
    )


def make_trainer(folder: Path, **options: Any) -> Any:
    from pytorch_lightning import Trainer

    return Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


@dataclass(frozen=True)
class Trained:
    """A trained model, the test rows, what it predicts for them, and what was measured."""

    package: Part
    data: Any
    model: Any
    evaluation: Any
    metrics: dict[str, float]
    x: Numbers
    target: Numbers

    def encode(self) -> torch.Tensor:
        """The model's inputs for the test rows."""
        columns = {"a": self.x[:, 0], "b": self.x[:, 1]}
        encoded: torch.Tensor = self.package("data.tables").encode_table(
            self.data.preprocessing, columns
        )
        return encoded

    def predict(self) -> Numbers:
        """What predict.py and serve.py compute for the test rows."""
        inputs, x = self.package("data.inputs").Inputs, self.encode()
        names = [str(number) for number in range(len(x))]
        _, outputs = self.package("prediction").run_model(
            self.model, inputs(names, x, list(range(len(x))), {}), 32
        )
        found: Numbers = outputs
        return found


def train(package: Part, folder: Path, x: Numbers, target: Numbers) -> Trained:
    data = make_data(package, x, target)
    model = make_model(package, data)
    trainer = make_trainer(folder, max_epochs=6)
    trainer.fit(model, data)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    (tested,) = trainer.test(model, data, verbose=False)
    loader = data.test_dataloader()
    evaluation = package("analysis.collect").collect(make_trainer(folder), model, loader)
    parts = package("data.splits").split_in_three(ROWS, 0.25, 0.25, 42)
    chosen = parts["test"]
    return Trained(package, data, model, evaluation, metrics | tested, x[chosen], target[chosen])


@pytest.fixture(scope="module")
def trained(package: Part, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """A model of each target, trained when it is first asked for."""
    done: dict[str, Trained] = {}

    def get(name: str) -> Trained:
        if name not in done:
            folder = tmp_path_factory.mktemp("run")
            done[name] = train(package, folder, *rows_of(*TARGETS[name]))
        return done[name]

    return get


@pytest.mark.parametrize("name", TARGETS)
def test_metrics_are_right_whatever_the_targets_mean_and_scale(
    trained: Callable[[str], Trained], name: str
) -> None:
    """A wrong R2 makes a useless model look perfect, or a good one useless."""
    run, std = trained(name), TARGETS[name][1]
    predicted = run.predict()
    assert predicted.dtype == np.float64
    # In units of the scale, since scikit-learn's squares of tiny numbers are zero too.
    truth = r2_score(run.target / std, predicted / std)
    assert run.metrics["test/r2"] == pytest.approx(truth, abs=1e-4)
    assert 0.7 < truth < 0.97
    if std > 1e-38:  # what a logged metric can hold
        mae = mean_absolute_error(run.target, predicted)
        assert run.metrics["test/mae"] == pytest.approx(mae, rel=1e-4)


@pytest.mark.parametrize("name", ["seconds since 1970", "a billion and a small signal", "tiny"])
def test_plots_and_tables_show_targets_as_they_are(
    trained: Callable[[str], Trained], name: str, tmp_path: Path
) -> None:
    """Residuals of values rounded to float32 are steps of 128 seconds."""
    run, analysis = trained(name), trained(name).package
    # A millionth of a standard deviation, and the last digit of float64.
    close = {"rtol": 0, "atol": 1e-6 * TARGETS[name][1] + 2 * np.spacing(np.abs(run.target).max())}
    np.testing.assert_allclose(run.evaluation.targets.numpy(), run.target, **close)
    np.testing.assert_allclose(run.evaluation.predictions.numpy(), run.predict(), **close)
    figure = analysis("analysis.residuals").draw_residuals(run.evaluation)
    figure.savefig(tmp_path / "residuals.png")
    fit, residuals = figure.axes[0].collections[0], figure.axes[1].collections[0]
    expected = run.predict() - run.target
    assert 0.1 < expected.std() / TARGETS[name][1] < 0.9
    np.testing.assert_allclose(fit.get_offsets()[:, 0], run.target, **close)
    np.testing.assert_allclose(residuals.get_offsets()[:, 1], expected, **close)
    analysis("analysis.losses").tabulate_losses(run.evaluation).save(tmp_path / "losses.csv")
    with (tmp_path / "losses.csv").open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: int(row["index"]))
    written = {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}
    np.testing.assert_array_equal(written["predicted"], run.evaluation.predictions.numpy())
    np.testing.assert_array_equal(written["true"], run.evaluation.targets.numpy())


@pytest.mark.parametrize("name", ["a billion and a small signal", "tiny"])
def test_exported_file_predicts_as_predict_does(
    trained: Callable[[str], Trained], name: str, tmp_path: Path
) -> None:
    """The exporter keeps plain numbers in 32 bits, and drops the addition of one near zero."""
    for extra in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(extra)
    run, exporting = trained(name), trained(name).package("exporting")
    exporting.write(run.model, tmp_path / "model.onnx")
    session = exporting.open_session(tmp_path / "model.onnx")
    (found,) = session.run(None, {"features": run.encode().numpy()})
    assert found.dtype == np.float64
    rounding = 2 * np.spacing(np.abs(run.target).max())
    np.testing.assert_allclose(
        found, run.predict(), rtol=0, atol=1e-6 * TARGETS[name][1] + rounding
    )
    # The check before a file is kept notices an error of a hundredth of a standard deviation.
    batches = [(run.encode(), torch.zeros(len(run.x)))]
    difference, _ = exporting.compare(run.model, tmp_path / "model.onnx", iter(batches))
    assert difference < 1e-3
    run.model.hparams["target_mean"] += 0.01 * run.model.hparams["target_std"]
    difference, _ = exporting.compare(run.model, tmp_path / "model.onnx", iter(batches))
    run.model.hparams["target_mean"] = run.data.target_mean
    assert difference > 1e-3


def test_own_datamodule_may_yield_targets_as_they_are(package: Part, tmp_path: Path) -> None:
    """Without target_mean and target_std, nothing is scaled: metrics and predictions agree."""
    base, batches = package("data.base"), package("data.batches")
    x, target = rows_of(5, 0.5)
    inputs, y = torch.from_numpy(x).float(), torch.from_numpy(target).float()

    class Plain(base.BaseDataModule):  # type: ignore[misc, name-defined]
        task, target_name, input_shape, preprocessing = "regression", "t", (2,), {"kind": "own"}

        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters({"batch_size": 32, "split_seed": 0}, logger=False)

        def load(self) -> Any:
            parts = {"train": slice(0, 120), "val": slice(120, 180), "test": slice(180, 240)}
            return {
                name: batches.BatchDataset(inputs[part], y[part]) for name, part in parts.items()
            }

    data = Plain()
    data.setup()
    model, trainer = make_model(package, data), make_trainer(tmp_path, max_epochs=20)
    trainer.fit(model, data)
    (metrics,) = trainer.test(model, data, verbose=False)
    evaluation = package("analysis.collect").collect(
        make_trainer(tmp_path), model, data.test_dataloader()
    )
    predicted = evaluation.predictions.numpy()
    np.testing.assert_allclose(evaluation.targets.numpy(), target[180:], rtol=1e-6)
    assert predicted.mean() == pytest.approx(5, abs=0.5)
    assert metrics["test/r2"] == pytest.approx(r2_score(target[180:], predicted), abs=1e-4)
    mae = mean_absolute_error(target[180:], predicted)
    assert metrics["test/mae"] == pytest.approx(mae, rel=1e-4)


# The metric


def test_r2_of_targets_that_are_not_standardised(package: Part) -> None:
    """An own datamodule may yield 10,000 +- 1: sums of squares gave 1.0084 instead of 0.937."""
    rng = np.random.default_rng(1)
    target = (1e4 + rng.normal(size=500)).astype(np.float32)
    predicted = (target + 0.25 * rng.normal(size=500)).astype(np.float32)
    metric = package("models.regression_metrics").R2()
    for start in range(0, 500, 32):
        stop = start + 32
        metric.update(torch.from_numpy(predicted[start:stop]), torch.from_numpy(target[start:stop]))
    truth = r2_score(target.astype(np.float64), predicted.astype(np.float64))
    assert metric.compute().item() == pytest.approx(truth, abs=1e-4)


def test_r2_of_several_processes_is_that_of_all_samples(package: Part) -> None:
    """Each process has a mean of its own; a mean of their R2 would be another number."""
    rng = np.random.default_rng(2)
    target = np.concatenate([rng.normal(-5, 1, 10), rng.normal(5, 1, 90)]).astype(np.float32)
    predicted = target + rng.normal(size=100).astype(np.float32)
    module = package("models.regression_metrics")
    parts = [module.R2(), module.R2(), module.R2()]
    for part, chosen in zip(parts, (slice(0, 10), slice(10, 100)), strict=False):
        part.update(torch.from_numpy(predicted[chosen]), torch.from_numpy(target[chosen]))
    together = module.R2()
    # As torchmetrics gathers them; the third process had no batch.
    for name, reduce in together._reductions.items():
        setattr(together, name, reduce(torch.stack([getattr(part, name) for part in parts])))
    together._update_count = 1
    assert together.compute().item() == pytest.approx(r2_score(target, predicted), abs=1e-5)


# A split in which R2 is undefined


@dataclass(frozen=True)
class SmallSplits:
    """What is logged, and what the last line of the log says, for small validation and test."""

    validated: dict[str, float]
    tested: dict[str, float]
    warnings: list[str]


def with_small_splits(
    package: Part, folder: Path, caplog: pytest.LogCaptureFixture, y: list[float], **options: Any
) -> SmallSplits:
    """Train on plenty of rows; validate and test on rows with these standardised targets."""
    data = make_data(package, *rows_of(0, 1))
    few = data.datasets["val"].x[: len(y)]
    for part in ("val", "test"):
        data.datasets[part] = package("data.batches").BatchDataset(few, torch.tensor(y))
    model, trainer = make_model(package, data), make_trainer(folder, max_epochs=3, **options)
    with caplog.at_level("WARNING"):
        trainer.fit(model, data)
        validated = {name: float(value) for name, value in trainer.callback_metrics.items()}
        (tested,) = trainer.test(model, data, verbose=False)
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("workbench")]
    return SmallSplits(validated, dict(tested), ours)


@pytest.mark.parametrize("y", [[0.5], [0.1, 0.1, 0.1]], ids=["one row", "equal rows"])
def test_undefined_r2_is_left_out(
    package: Part, tmp_path: Path, caplog: pytest.LogCaptureFixture, y: list[float]
) -> None:
    """A split of one row has a loss and an error, and no traceback, NaN or invented R2."""
    found = with_small_splits(package, tmp_path, caplog, y)
    assert set(found.validated) == {"train/loss", "train/mae", "train/r2", "val/loss", "val/mae"}
    assert set(found.tested) == {"test/loss", "test/mae"}
    assert np.isfinite([*found.validated.values(), *found.tested.values()]).all()
    # Once, not in each of three epochs.
    assert found.warnings == [
        f"{name} is undefined for fewer than two different targets and is left out"
        for name in ("val/r2", "test/r2")
    ]


def test_undefined_r2_is_no_objective(
    package: Part, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Early stopping would end in a traceback for a metric that is not there."""
    from pytorch_lightning.callbacks import EarlyStopping

    stopping = EarlyStopping("val/r2", mode="max")
    with pytest.raises(package("errors").UserError, match=r"^val/r2 is undefined .*=val/loss\.$"):
        with_small_splits(package, tmp_path, caplog, [0.5], callbacks=[stopping])


def test_r2_of_a_diverged_model_stays_visible(package: Part) -> None:
    """NaN predictions are a failure, which leaving the metric out would hide."""
    metric = package("models.regression_metrics").R2()
    metric.update(torch.tensor([float("nan"), 1.0]), torch.tensor([1.0, 2.0]))
    assert metric.compute().isnan()
    assert metric.is_defined


# The data


@pytest.mark.parametrize("value", [0.0, 0.1, 1.7e9])
def test_constant_training_target_is_refused(package: Part, value: float) -> None:
    """0.1 many times has a deviation of 1e-17 by rounding, with which it was standardised."""
    x, target = rows_of(value, 1)
    target[package("data.splits").split_in_three(ROWS, 0.25, 0.25, 42)["train"]] = value
    with pytest.raises(package("errors").UserError, match="'target' has the same value in every"):
        make_data(package, x, target)


def test_data_of_another_unit_have_another_fingerprint(package: Part) -> None:
    """Standardised, metres and kilometres are equal; a resumed run would mix them."""
    x, target = rows_of(10, 1)
    metres, kilometres = (make_data(package, x, target * scale) for scale in (1024, 1))
    assert torch.equal(metres.datasets["train"].y, kilometres.datasets["train"].y)
    assert metres.fingerprints() != kilometres.fingerprints()
    assert metres.fingerprints() == make_data(package, x, target * 1024).fingerprints()
