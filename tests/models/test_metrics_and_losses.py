"""Metrics and losses named in the config, beside scikit-learn and NumPy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from pytorch_lightning import Callback, LightningModule, Trainer
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from ..support.template_package import Part, template_package

SAMPLES, CLASSES, TARGETS = 97, 4, ["price", "age"]
MEANS, STDS = [1e6, 40.0], [2.5e5, 12.0]
# The last batch is small: a mean over batches would not be one over samples.
BATCH = 30


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    with template_package(tmp_path_factory.mktemp("package"), "package_of_loss_tests") as part:
        yield part


def make(package: Part, name: str, **told: Any) -> Any:
    """A model of three inputs."""
    common: dict[str, Any] = {
        "net": {"name": "mlp", "width": 8, "depth": 1},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "scheduler": {"name": "constant"},
        "input_shape": [3],
    }
    return getattr(package("models"), name)(**common | told)


def rejection(package: Part, name: str, **told: Any) -> str:
    """The one sentence with which a model refuses its options."""
    with pytest.raises(package("errors").UserError) as refused:
        make(package, name, **told)
    message = str(refused.value)
    assert "\n" not in message
    return message


def trainer(folder: Path, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", default_root_dir=folder, **quiet | options)


def loader(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), batch_size=BATCH)


def computed(model: Any, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """What the validation metrics of a model make of predictions that come in batches."""
    collection = model.metrics["val_metrics"]
    for start in range(0, len(targets), BATCH):
        collection.update(*(values[start : start + BATCH] for values in (predictions, targets)))
    return {name.removeprefix("val/"): float(v) for name, v in collection.compute().items()}


def made_up_classes() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (N, C) that are right more often than not, and classes."""
    rng = np.random.default_rng(0)
    y = rng.choice(CLASSES, SAMPLES, p=[0.5, 0.3, 0.15, 0.05])
    logits = rng.normal(size=(SAMPLES, CLASSES)) + 1.5 * np.eye(CLASSES)[y]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), y


def made_up_labels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (N, L) and labels."""
    rng = np.random.default_rng(1)
    y = (rng.random((SAMPLES, 3)) < [0.5, 0.3, 0.1]).astype(np.int64)
    return 1 / (1 + np.exp(-rng.normal(size=y.shape) - 2 * y + 1)), y


# Metrics


def test_metrics_of_classes_are_those_of_scikit_learn(package: Part) -> None:
    """A metric of the right name with another average would be believed."""
    names = ["acc", "balanced_acc", "f1", "precision", "recall", "auroc", "ap", "mcc", "kappa"]
    more: list[Any] = [
        {"name": "fbeta", "beta": 2.0},
        {"name": "f1", "average": "micro", "as": "f1_micro"},
        {"name": "acc", "top_k": 2, "as": "top2"},
        {"name": "recall", "average": "none", "as": "found"},
        "MulticlassJaccardIndex",
        "cohen_kappa",
    ]
    class_names = ["a", "b", "c", "d"]
    model = make(
        package, "Classifier", num_classes=4, class_names=class_names, metrics=names + more
    )
    p, y = made_up_classes()
    best = p.argmax(axis=1)
    of_each = sk.recall_score(y, best, average=None)
    expected = {
        "acc": sk.accuracy_score(y, best),
        "balanced_acc": sk.balanced_accuracy_score(y, best),
        "f1": sk.f1_score(y, best, average="macro"),
        "precision": sk.precision_score(y, best, average="macro"),
        "recall": sk.recall_score(y, best, average="macro"),
        "auroc": sk.roc_auc_score(y, p, average="macro", multi_class="ovr"),
        "ap": sk.average_precision_score(np.eye(4)[y], p, average="macro"),
        "mcc": sk.matthews_corrcoef(y, best),
        "kappa": sk.cohen_kappa_score(y, best),
        "fbeta": sk.fbeta_score(y, best, beta=2, average="macro"),
        "f1_micro": sk.f1_score(y, best, average="micro"),
        "top2": sk.top_k_accuracy_score(y, p, k=2),
        "MulticlassJaccardIndex": sk.jaccard_score(y, best, average="macro"),
        "cohen_kappa": sk.cohen_kappa_score(y, best),
    } | {f"found_{name}": value for name, value in zip(class_names, of_each, strict=True)}
    found = computed(model, torch.tensor(p, dtype=torch.float32), torch.tensor(y))
    assert found == pytest.approx(expected, abs=1e-5)
    assert {f"val/{name}" for name in [*expected, "loss"]} == {
        name for name in model.metric_names if name.startswith("val/")
    }


def test_metrics_of_labels_are_those_of_scikit_learn(package: Part) -> None:
    """Each label is right or wrong alone; only `exact_match` asks for all of them."""
    metrics = ["acc", "f1", "auroc", "exact_match", "ap"]
    model = make(package, "Classifier", num_classes=3, task="multilabel", metrics=metrics)
    p, y = made_up_labels()
    applies = (p >= 0.5).astype(int)
    found = computed(model, torch.tensor(p), torch.tensor(y, dtype=torch.float32))
    assert found == pytest.approx(
        {
            "acc": (applies == y).mean(),
            "f1": sk.f1_score(y, applies, average="macro"),
            "auroc": sk.roc_auc_score(y, p, average="macro"),
            "exact_match": sk.accuracy_score(y, applies),
            "ap": sk.average_precision_score(y, p, average="macro"),
        },
        abs=1e-5,
    )


def ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The rank of each value, from 0."""
    return values.argsort().argsort()


def test_metrics_of_several_targets_are_in_the_unit_of_each(package: Part) -> None:
    """A mean over euros and years means nothing; R2 has no unit and is averaged."""
    metrics = ["mae", "mse", "rmse", "mape", "spearman", "explained_variance", "r2"]
    targets = {"target_name": TARGETS, "target_mean": MEANS, "target_std": STDS}
    model = make(package, "Regressor", metrics=metrics, **targets)
    rng = np.random.default_rng(2)
    y = rng.normal(size=(SAMPLES, 2))
    p = y + 0.5 * rng.normal(size=y.shape)
    expected = {"r2": sk.r2_score(y, p)}
    for place, name in enumerate(TARGETS):
        true, told = (v[:, place] * STDS[place] + MEANS[place] for v in (y, p))
        expected |= {
            f"mae_{name}": sk.mean_absolute_error(true, told),
            f"mse_{name}": sk.mean_squared_error(true, told),
            f"rmse_{name}": sk.root_mean_squared_error(true, told),
            f"mape_{name}": sk.mean_absolute_percentage_error(true, told),
            # The correlation of the ranks.
            f"spearman_{name}": np.corrcoef(ranks(true), ranks(told))[0, 1],
            f"explained_variance_{name}": sk.explained_variance_score(true, told),
        }
    found = computed(model, *(torch.tensor(v, dtype=torch.float32) for v in (p, y)))
    assert found == pytest.approx(expected, rel=1e-4)


def test_any_name_of_a_target_or_class_can_end_that_of_a_metric(package: Part) -> None:
    """A point ended in a KeyError of torch, and two classes of one name had one value."""
    two = {"target_mean": [0.0, 0.0], "target_std": [1.0, 1.0]}
    model = make(package, "Regressor", target_name=["price (EUR)", "v1.5 km/h"], **two)
    named = {name for name in model.metric_names if name.startswith("val/mae")}
    assert named == {"val/mae_price _EUR_", "val/mae_v1_5 km_h"}
    names = ["a.b", "a b", "a:b"]
    metrics = [{"name": "recall", "average": "none"}]
    model = make(package, "Classifier", num_classes=3, class_names=names, metrics=metrics)
    p, y = made_up_classes()
    chosen = torch.tensor(p[y < 3, :3]), torch.tensor(y[y < 3])
    assert set(computed(model, *chosen)) == {"recall_a_b_0", "recall_a b", "recall_a_b_2"}


def test_default_metrics_keep_their_names(package: Part) -> None:
    """Sweeps and tables of earlier runs go by them."""
    classifier, regressor = make(package, "Classifier", num_classes=3), make(package, "Regressor")
    for model, names in ((classifier, {"loss", "acc", "f1"}), (regressor, {"loss", "mae", "r2"})):
        stages = ("train", "val", "test")
        assert set(model.metric_names) == {f"{s}/{n}" for s in stages for n in names}


@pytest.mark.parametrize(
    ("name", "metrics", "parts"),
    [
        ("Classifier", ["acuracy"], ["'acuracy' for classification", "did you mean"]),
        ("Classifier", ["mae"], ["'mae' for classification"]),
        ("Regressor", ["accuracy"], ["'accuracy' for regression", "there are:", "rmse"]),
        ("Regressor", ["pearsn"], ["did you mean 'pearson'?"]),
        (
            "Classifier",
            ["f1", {"name": "f1", "average": "micro"}],
            ["two metrics 'f1'", "as: f1_2"],
        ),
        ("Classifier", [{"name": "fbeta", "bta": 2.0}], ["'fbeta'", "bta=2.0"]),
        ("Classifier", [{"name": "acc", "top_k": 9}], ["'acc'", "top_k=9"]),
        ("Classifier", [{"name": "f1", "as": "loss"}], ["two metrics 'loss'"]),
    ],
)
def test_metric_that_cannot_be_built_is_named(
    package: Part, name: str, metrics: list[Any], parts: list[str]
) -> None:
    """A misspelled metric is found before training, in one sentence."""
    told = {"num_classes": 3} if name == "Classifier" else {}
    message = rejection(package, name, metrics=metrics, **told)
    assert all(part in message for part in parts), message


def test_curve_is_no_metric_to_log(package: Part) -> None:
    """Lightning says so too, but after the first epoch."""
    model = make(package, "Classifier", num_classes=3, metrics=["roc"])
    with pytest.raises(package("errors").UserError, match=r"/roc .*cannot be logged"):
        _ = model.metric_names


# Losses


def test_balanced_loss_is_that_of_scikit_learn(package: Part, tmp_path: Path) -> None:
    """The epoch's loss is the weighted mean of all samples, however they fall into batches."""
    rng = np.random.default_rng(3)
    _, y = made_up_classes()
    counts = np.bincount(y).tolist()
    loss = {"name": "cross_entropy", "class_weight": "balanced"}
    model = make(package, "Classifier", num_classes=4, class_counts=counts, loss=loss)
    x = torch.tensor(rng.normal(size=(SAMPLES, 3)), dtype=torch.float32)
    (found,) = trainer(tmp_path).validate(model, loader(x, torch.tensor(y)), verbose=False)
    weights = compute_class_weight("balanced", classes=np.arange(4), y=y)
    with torch.no_grad():
        p = model(x).double().numpy()
    expected = sk.log_loss(y, p / p.sum(axis=1, keepdims=True), sample_weight=weights[y])
    assert found["val/loss"] == pytest.approx(expected, rel=1e-5)


def test_weights_and_smoothing_are_those_of_the_formula(package: Part) -> None:
    """With both, each class's share of the smoothed target has the weight of that class."""
    p, y = made_up_classes()
    weights = np.array([1.0, 2.0, 0.5, 4.0])
    loss = {"class_weight": weights.tolist(), "label_smoothing": 0.1}
    model = make(package, "Classifier", num_classes=4, loss=loss)
    target = 0.9 * np.eye(4)[y] + 0.1 / 4
    expected = -(weights * target * np.log(p)).sum() / weights[y].sum()
    found = model.loss(torch.tensor(np.log(p), dtype=torch.float32), torch.tensor(y))
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_balanced_labels_weigh_as_much_where_they_apply_as_where_not(package: Part) -> None:
    """A label that 1 % of the rows have would otherwise never be predicted."""
    p, y = made_up_labels()
    counts = [[int((1 - column).sum()), int(column.sum())] for column in y.T]
    loss = {"class_weight": "balanced"}
    model = make(
        package, "Classifier", num_classes=3, task="multilabel", class_counts=counts, loss=loss
    )
    ratio = (1 - y).sum(axis=0) / y.sum(axis=0)
    expected = -(ratio * y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    logits = torch.tensor(np.log(p / (1 - p)), dtype=torch.float32)
    assert model.loss(logits, torch.tensor(y).float()).item() == pytest.approx(expected, rel=1e-5)


def test_class_without_training_samples_has_a_weight(package: Part) -> None:
    """Dividing by its count made the loss infinite."""
    balanced = package("models.by_name").balanced
    assert balanced([30, 10, 0]) == [20 / 30, 2.0, 1.0]
    assert balanced([[8, 2], [10, 0]]) == [4.0, 1.0]


def test_quantile_loss_is_that_of_scikit_learn(package: Part) -> None:
    """Outputs are ordered by target and then by quantile."""
    quantiles = [0.1, 0.5, 0.8]
    targets = {"target_name": TARGETS, "target_mean": MEANS, "target_std": STDS}
    loss = {"name": "quantile", "quantiles": quantiles}
    model = make(package, "Regressor", loss=loss, **targets)
    rng = np.random.default_rng(4)
    y, outputs = rng.normal(size=(SAMPLES, 2)), rng.normal(size=(SAMPLES, 6))
    expected = np.mean(
        [
            sk.mean_pinball_loss(y[:, t], outputs[:, 3 * t + q], alpha=alpha)
            for t in range(2)
            for q, alpha in enumerate(quantiles)
        ]
    )
    assert model.loss(torch.tensor(outputs), torch.tensor(y)).item() == pytest.approx(expected)
    by_hand = package("models.losses").QuantileLoss(0.9)
    # Three too low costs 0.9 each, three too high 0.1 each.
    assert by_hand(torch.tensor([[0.0], [6.0]]), torch.tensor([3.0, 3.0])).item() == pytest.approx(
        (0.9 * 3 + 0.1 * 3) / 2
    )


def test_quantiles_are_in_order_and_the_median_is_the_prediction(package: Part) -> None:
    """Crossed quantiles would be a range with its end before its beginning."""
    loss = {"name": "quantile", "quantiles": [0.1, 0.5, 0.9]}
    targets = {"target_name": TARGETS, "target_mean": MEANS, "target_std": STDS}
    model = make(package, "Regressor", loss=loss, **targets)
    assert model.output_names == [f"{t}_q{q}" for t in TARGETS for q in ("0.1", "0.5", "0.9")]
    outputs = torch.tensor([[3.0, 1.0, 2.0, -1.0, 0.0, 1.0]])
    predictions = model.predict(outputs)
    assert predictions.tolist() == [[1.0, 2.0, 3.0, -1.0, 0.0, 1.0]]
    assert model.point(predictions).tolist() == [[2.0, 0.0]]
    in_unit = [m + s * v for m, s, v in zip(MEANS, STDS, [2.0, 0.0], strict=True)]
    assert model.point(model.in_target_unit(predictions)).tolist() == [in_unit]
    assert model.in_target_unit(torch.tensor([[2.0, 0.0]])).tolist() == [in_unit]
    single = make(package, "Regressor", loss=loss | {"quantiles": 0.9}, target_name="price")
    assert single.output_names == ["price_q0.9"]
    assert single(torch.zeros(5, 3)).shape == (5,)


@pytest.mark.parametrize("name", ["mse", "mae", "l1", "huber"])
def test_losses_of_values_are_those_of_the_formula(package: Part, name: str) -> None:
    """(B, 1) outputs beside (B,) targets would broadcast to (B, B)."""
    options = {"delta": 0.5} if name == "huber" else {}
    model = make(package, "Regressor", loss={"name": name} | options)
    rng = np.random.default_rng(5)
    y, outputs = rng.normal(size=SAMPLES), rng.normal(size=SAMPLES)
    error = np.abs(y - outputs)
    expected = {
        "mse": error**2,
        "mae": error,
        "l1": error,
        "huber": np.where(error < 0.5, error**2 / 2, 0.5 * (error - 0.25)),
    }[name].mean()
    found = model.loss(torch.tensor(outputs)[:, None], torch.tensor(y))
    assert found.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "loss", "parts"),
    [
        ("Classifier", {"name": "crossentropy"}, ["'crossentropy' for classification"]),
        ("Classifier", {"name": "mse"}, ["'mse' for classification", "cross_entropy"]),
        ("Regressor", {"name": "hubber"}, ["did you mean 'huber'?"]),
        ("Regressor", {"name": "mse", "delta": 1.0}, ["'mse'", "delta=1.0"]),
        ("Regressor", {"name": "quantile"}, ["'quantile'", "quantiles"]),
        ("Regressor", {"name": "quantile", "quantiles": [0.9, 0.1]}, ["ascending"]),
        ("Regressor", {"name": "quantile", "quantiles": [0.0, 0.5]}, ["between 0 and 1"]),
        ("Regressor", {"name": "quantile", "quantiles": []}, ["between 0 and 1"]),
        ("Regressor", {"name": "huber", "delta": -1}, ["delta is positive"]),
        ("Classifier", {"label_smoothing": 1.5}, ["label_smoothing is at least 0"]),
        ("Classifier", {"class_weight": [1.0, 2.0]}, ["each of the 3 classes"]),
        ("Classifier", {"class_weight": [1.0, 2.0, -1.0]}, ["each of the 3 classes"]),
        ("Classifier", {"class_weight": "balnced"}, ["balanced or a list"]),
        ("Classifier", {"class_weight": "balanced"}, ["class_counts", "datamodule"]),
    ],
)
def test_loss_that_cannot_be_built_is_named(
    package: Part, name: str, loss: dict[str, Any], parts: list[str]
) -> None:
    """Rather than a traceback from within torch, or a loss that is negative."""
    told = {"num_classes": 3} if name == "Classifier" else {}
    message = rejection(package, name, loss=loss, **told)
    assert all(part in message for part in parts), message


def test_half_precision_leaves_the_weights_of_classes_alone(package: Part) -> None:
    """In bfloat16 a weight has two to three digits."""
    weights = [1.0, 1.001, 0.333]
    model = make(package, "Classifier", num_classes=3, loss={"class_weight": weights})
    model.to(torch.bfloat16)
    assert model.net.layers[1].weight.dtype == torch.bfloat16
    assert torch.equal(model.loss_function.weight, torch.tensor(weights))


def test_models_refuse_data_of_another_task(package: Part) -> None:
    """Class numbers would be fitted as values without notice."""
    message = rejection(package, "Classifier", num_classes=3, task="regression")
    assert message.endswith("choose another model group, for example model=mlp_regressor.")
    message = rejection(package, "Regressor", task="multilabel")
    assert message.endswith("choose another model group, for example model=mlp.")


# Lightning's own contract


class Reader(Callback):
    """Notes the metrics that a user's callback finds at the end of epochs."""

    def __init__(self) -> None:
        self.validated: list[dict[str, float]] = []
        self.trained: list[dict[str, float]] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note those of the validation."""
        if not trainer.sanity_checking:
            self.validated.append(self._read(trainer, "val/"))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note those of the training."""
        self.trained.append(self._read(trainer, "train/"))

    def _read(self, trainer: Trainer, stage: str) -> dict[str, float]:
        values = trainer.callback_metrics.items()
        return {name: float(value) for name, value in values if name.startswith(stage)}


class Watched(Reader):
    """Also notes the loss that each batch had."""

    def __init__(self) -> None:
        super().__init__()
        self.losses: list[tuple[float, int]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the loss and the number of samples."""
        self.losses.append((outputs["loss"].item(), len(batch[0])))


def test_callbacks_see_the_metrics_of_the_epoch_that_ends(package: Part, tmp_path: Path) -> None:
    """Lightning calls them before the model's own hook: what is logged there comes too late."""
    model = make(package, "Classifier", num_classes=2)
    x = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(0))
    data = loader(x, (x[:, 0] > 0).long())
    seen = Watched()
    trainer(tmp_path, max_epochs=3, callbacks=[seen]).fit(model, data, data)
    batches = len(data)
    for epoch, found in enumerate(seen.trained):
        losses = seen.losses[epoch * batches : (epoch + 1) * batches]
        mean = sum(loss * count for loss, count in losses) / SAMPLES
        assert found["train/loss"] == pytest.approx(mean, rel=1e-6)
    assert len(seen.trained) == len(seen.validated) == 3
    assert len({found["val/loss"] for found in seen.validated}) == 3
    assert set(seen.validated[0]) == {"val/loss", "val/acc", "val/f1"}


class OwnGroups:
    """How a user trains the head faster, and the biases without decay."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Weights and biases."""
        net: Any = self.net  # type: ignore[attr-defined]
        biases = [p for name, p in net.named_parameters() if name.endswith("bias")]
        weights = [p for name, p in net.named_parameters() if not name.endswith("bias")]
        return [{"params": weights}, {"params": biases, "weight_decay": 0.0, "lr": 0.5}]


def test_parameter_groups_reach_the_optimizer(package: Part, tmp_path: Path) -> None:
    """A lower rate for a backbone needed a private method, or an optimizer of one's own."""
    base = package("models").Classifier
    model = type("Own", (OwnGroups, base), {})(
        net={"name": "mlp", "width": 4, "depth": 1},
        optimizer={"name": "SGD", "lr": 0.1, "weight_decay": 0.01},
        scheduler={"name": "cosine", "warmup": 0.0},
        input_shape=[3],
        num_classes=2,
    )
    x = torch.randn(60, 3)
    run = trainer(tmp_path, max_epochs=2, limit_train_batches=1)
    run.fit(model, loader(x, (x[:, 0] > 0).long()))
    weights, biases = run.optimizers[0].param_groups
    assert (weights["weight_decay"], biases["weight_decay"]) == (0.01, 0.0)
    # Both follow the schedule, each from its own rate.
    assert (weights["initial_lr"], biases["initial_lr"]) == (0.1, 0.5)
    assert biases["lr"] == pytest.approx(5 * weights["lr"])


class OwnNet(nn.Module):
    """A network that a config names with `_target_`."""

    def __init__(self, input_shape: list[int], num_outputs: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(input_shape[0], width), nn.ReLU(), nn.Linear(width, num_outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        outputs: Tensor = self.layers(x)
        return outputs


def test_network_can_be_given_instead_of_its_name(package: Part) -> None:
    """A class of one's own needed a line in `NETS`; hyperparameters stay plain values."""
    config = OmegaConf.create(
        {
            "_target_": f"{package('models').__name__}.Classifier",
            "net": {"_target_": f"{__name__}.OwnNet", "width": 5},
        }
    )
    facts = {"input_shape": [3], "num_classes": 4}
    build = package("building").build_model
    model = build(config, facts, {"name": "SGD", "lr": 0.1}, {"name": "constant"})
    assert model(torch.zeros(2, 3)).shape == (2, 4)
    assert "net" not in model.hparams
    assert isinstance(make(package, "Classifier", net=model.net, num_classes=4).net, OwnNet)


def test_loss_and_metric_can_be_given_instead_of_their_names(package: Part, tmp_path: Path) -> None:
    """What torch and torchmetrics have needs no line in a table."""
    config = OmegaConf.create(
        {
            "_target_": f"{package('models').__name__}.Regressor",
            "net": {"name": "mlp", "width": 4, "depth": 1},
            "loss": {"_target_": "torch.nn.SmoothL1Loss", "beta": 0.5},
            "metrics": [
                "mae",
                {"name": "total", "metric": {"_target_": "torchmetrics.MeanSquaredError"}},
            ],
        }
    )
    build = package("building").build_model
    model = build(config, {"input_shape": [3]}, {"name": "SGD", "lr": 0.1}, {"name": "constant"})
    x = torch.randn(SAMPLES, 3, generator=torch.Generator().manual_seed(0))
    y = 2 * x[:, 0]
    (found,) = trainer(tmp_path).validate(model, loader(x, y), verbose=False)
    error = (model(x) - y).abs().detach().double().numpy()
    expected = np.where(error < 0.5, error**2, error - 0.25).mean()
    assert found["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert found["val/total"] == pytest.approx((error**2).mean(), rel=1e-5)
    assert set(found) == {"val/loss", "val/mae", "val/total"}


def test_pretrained_weights_are_not_needed_again(package: Part, tmp_path: Path) -> None:
    """A checkpoint could only be evaluated where the file lay that its training began with."""
    resnet = package("models.nets").resnet18
    torch.manual_seed(0)
    source = resnet([3, 32, 32], 5)
    path = tmp_path / "start.pt"
    torch.save({f"net.{name}": value for name, value in source.state_dict().items()}, path)
    tuned = resnet([3, 32, 32], 2, weights=str(path))
    for name, value in source.state_dict().items():
        # A head for another number of classes stays new.
        assert name.startswith("fc.") != torch.equal(tuned.state_dict()[name], value)
    path.unlink()
    with pytest.raises(package("errors").UserError, match=r"start.pt cannot be read"):
        resnet([3, 32, 32], 2, weights=str(path))
    with package("models.pretrained").without_pretrained():
        again = resnet([3, 32, 32], 2, weights=str(path))
    again.load_state_dict(tuned.state_dict())
