"""The check of a metric's name knows every name that is logged, and no other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import (
    BootStrapper,
    ClasswiseWrapper,
    MeanAbsoluteError,
    Metric,
    MetricCollection,
    MinMaxMetric,
    PearsonCorrCoef,
    SpearmanCorrCoef,
)
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassAUROC,
    MulticlassConfusionMatrix,
    MulticlassRecall,
)

from ..support.template_package import Part

SHAPES = ["circle", "square", "triangle"]
Metrics = dict[str, Metric | MetricCollection]


def make_model(package: Part, task: str, metrics: Metrics) -> Any:
    told: dict[str, Any] = {"num_classes": 3, "class_names": SHAPES}
    if task == "regression":
        told = {"target_name": "y", "target_mean": 0.0, "target_std": 1.0}
    models = package("models")
    made: Any = {"classification": models.Classifier, "regression": models.Regressor}[task](
        net={"name": "mlp", "width": 4, "depth": 1},
        optimizer={"name": "SGD", "lr": 0.01},
        scheduler={"name": "constant"},
        input_shape=[5],
        preprocessing={},
        **told,
    )
    made.add_metrics(metrics)
    return made


def recall(**options: Any) -> Metric:
    return MulticlassRecall(3, average=None, **options)


@pytest.mark.parametrize(
    ("task", "make", "names"),
    [
        (
            "classification",
            lambda: {
                "acc": MulticlassAccuracy(3),
                "recall": ClasswiseWrapper(recall(), SHAPES, prefix="recall_"),
            },
            ["acc", "recall_circle", "recall_square", "recall_triangle"],
        ),
        (
            "classification",
            lambda: {"recall": ClasswiseWrapper(recall())},
            [f"multiclassrecall_{number}" for number in range(3)],
        ),
        (
            "classification",
            # It keeps all samples, and computes nothing without them.
            lambda: {"auroc": ClasswiseWrapper(MulticlassAUROC(3, average=None), SHAPES)},
            [f"multiclassauroc_{name}" for name in SHAPES],
        ),
        (
            "classification",
            lambda: {"acc": MinMaxMetric(MulticlassAccuracy(3))},
            ["raw", "min", "max"],
        ),
        (
            "classification",
            lambda: {
                "nested": MetricCollection(
                    {"r": ClasswiseWrapper(recall(), SHAPES, prefix="r_")}, prefix="in_"
                ),
                "acc": MulticlassAccuracy(3),
            },
            ["acc", "in_r_circle", "in_r_square", "in_r_triangle"],
        ),
        (
            "regression",
            lambda: {"spearman": SpearmanCorrCoef(), "pearson": PearsonCorrCoef()},
            ["spearman", "pearson"],
        ),
        (
            "regression",
            lambda: {"mae": BootStrapper(MeanAbsoluteError(), num_bootstraps=3)},
            ["mean", "std"],
        ),
    ],
)
def test_known_names_are_those_logged(
    package: Part, tmp_path: Path, task: str, make: Callable[[], Metrics], names: list[str]
) -> None:
    """A right objective is not refused, and what is suggested instead does not end in an error."""
    model = make_model(package, task, make())
    known = model.metric_names
    expected = {
        f"{stage}/{name}" for stage in ("train", "val", "test") for name in (*names, "loss")
    }
    assert set(known) == expected
    x = torch.randn(30, 5, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(dim=1) if task == "classification" else x.sum(dim=1)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    loader = DataLoader(TensorDataset(x, y), batch_size=10)
    trainer.fit(model, loader, loader)
    logged = set(trainer.callback_metrics)
    trainer.test(model, loader, verbose=False)
    assert logged | set(trainer.callback_metrics) == set(known)


def test_wrapped_metric_can_be_the_objective(package: Part) -> None:
    """`val/recall_triangle` is accepted, and suggested to whoever writes `val/recal_triangle`."""
    wrapped = ClasswiseWrapper(recall(), SHAPES, prefix="recall_")
    model = make_model(package, "classification", {"recall": wrapped})
    check = package("objective").check_objective

    def objective(metric: str) -> dict[str, str]:
        return {"objective.metric": metric}

    check(objective("val/recall_triangle"), model.metric_names)
    with pytest.raises(package("errors").UserError, match="did you mean 'val/recall_triangle'"):
        check(objective("val/recal_triangle"), model.metric_names)
    with pytest.raises(package("errors").UserError, match="does not log"):
        check(objective("val/recall"), model.metric_names)


@pytest.mark.parametrize("metric", [recall(), MulticlassConfusionMatrix(3)])
def test_metric_with_many_values_is_refused(package: Part, metric: Metric) -> None:
    """Lightning says so too, but after the first epoch."""
    model = make_model(package, "classification", {"many": metric})
    with pytest.raises(package("errors").UserError, match=r"many has (3|9) values.*Classwise"):
        _ = model.metric_names


def test_asking_for_names_counts_no_sample(package: Part) -> None:
    """The names are found with a copy: the metrics of the run have seen nothing."""
    model = make_model(package, "classification", {"auroc": MulticlassAUROC(3)})
    _ = model.metric_names
    assert model.metrics["val_metrics"]["auroc"].preds == []
    assert not model.metrics["val_metrics"]["auroc"].update_called
