"""Losses named in the config, compared with scikit-learn and NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight

from ..support.small_models import (
    MEANS,
    SAMPLES,
    STDS,
    TARGETS,
    loader,
    made_up_classes,
    made_up_labels,
    make,
    rejection,
    trainer,
)
from ..support.template_package import Part


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


def test_mixed_labels_have_the_loss_of_the_formula(package: Part) -> None:
    """PyTorch divides by the number of samples for mixed labels, by their weights for others."""
    p, y = made_up_classes()
    weights = np.array([1.0, 2.0, 0.5, 4.0])
    loss = {"class_weight": weights.tolist(), "label_smoothing": 0.1}
    model = make(package, "Classifier", num_classes=4, loss=loss)
    logits = torch.tensor(np.log(p), dtype=torch.float32)
    labels = 0.7 * np.eye(4)[y] + 0.3 * np.eye(4)[np.roll(y, 1)]
    target = 0.9 * labels + 0.1 / 4
    expected = -(weights * target * np.log(p)).sum() / (labels @ weights).sum()
    found = model.loss(logits, torch.tensor(labels, dtype=torch.float32))
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert float(model.batch_weight(torch.tensor(labels).float())) == pytest.approx(
        (labels @ weights).sum(), rel=1e-5
    )
    # Labels that are not mixed have the same loss in both forms.
    hard = model.loss(logits, torch.tensor(y))
    soft = model.loss(logits, torch.tensor(np.eye(4)[y], dtype=torch.float32))
    assert soft.item() == pytest.approx(hard.item(), rel=1e-5)


def test_metrics_of_mixed_labels_count_the_prevailing_ones(package: Part, tmp_path: Path) -> None:
    """Metrics of classes need classes; `train/acc` would otherwise end the run with an error."""
    x = torch.randn(SAMPLES, 3)
    y = torch.tensor(made_up_classes()[1])
    mixed = 0.7 * torch.eye(4)[y] + 0.3 * torch.eye(4)[y.roll(1)]
    several = torch.randint(2, (SAMPLES, 4)).float()
    for task, targets, hard in (
        ("classification", mixed, y),
        ("multilabel", 0.7 * several + 0.3 * several.roll(1, 0), several.long()),
    ):
        model = make(package, "Classifier", num_classes=4, task=task)
        options: dict[str, Any] = {
            "max_epochs": 1,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
        }
        # A learning rate of zero: all batches are predicted with the same weights.
        model.hparams["optimizer"]["lr"] = 0.0
        fitted = trainer(tmp_path, **options)
        fitted.fit(model, loader(x, targets))
        with torch.no_grad():
            p = model.eval()(x)
        right = (p > 0.5).long() == hard if task == "multilabel" else p.argmax(dim=1) == hard
        found = float(fitted.callback_metrics["train/acc"])
        assert found == pytest.approx(right.float().mean().item(), abs=1e-5)


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


def test_task_of_texts_names_a_model_for_texts(package: Part) -> None:
    """A regressor of tables has no use for texts."""
    supervised = package("models.supervised")
    for name, task, choice in (
        ("classifier.Classifier", "regression", "text_regressor"),
        ("regressor.Regressor", "classification", "text_encoder"),
    ):
        module, _, kind = name.partition(".")
        model_class = getattr(package(f"models.{module}"), kind)
        with pytest.raises(package("errors").UserError, match=rf"for example model={choice}\."):
            supervised.check_task(model_class, task, is_text=True)
