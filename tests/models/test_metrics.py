"""Metrics named in the config, compared with scikit-learn and NumPy."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from ..support.small_models import (
    MEANS,
    SAMPLES,
    STDS,
    TARGETS,
    computed,
    made_up_classes,
    made_up_labels,
    make,
    rejection,
)
from ..support.template_package import Part


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
