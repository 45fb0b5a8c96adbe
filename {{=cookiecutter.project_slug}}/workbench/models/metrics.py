"""Metrics by name: any class of torchmetrics for the task, by a short name or its own."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from types import ModuleType
from typing import Any

from torch import Tensor
from torchmetrics import (
    ClasswiseWrapper,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    MetricCollection,
    R2Score,
    classification,
    regression,
)

from ..errors import UserError, cannot_build, nearest
from .class_metrics import WITHOUT_WAITING
from .regression_metrics import R2, OfTarget

Spec = str | Mapping[str, Any]

# In addition to the names of torchmetrics, whose case, underscores and task prefix do not matter.
SHORT_NAMES = {
    "acc": "Accuracy",
    "ap": "AveragePrecision",
    "auc": "AUROC",
    "auroc": "AUROC",
    "ece": "CalibrationError",
    "f1": "F1Score",
    "fbeta": "FBetaScore",
    "iou": "JaccardIndex",
    "jaccard": "JaccardIndex",
    "kappa": "CohenKappa",
    "mcc": "MatthewsCorrCoef",
    "precision": "Precision",
    "recall": "Recall",
    "specificity": "Specificity",
    "ccc": "ConcordanceCorrCoef",
    "kendall": "KendallRankCorrCoef",
    "mae": "MeanAbsoluteError",
    "mape": "MeanAbsolutePercentageError",
    "mse": "MeanSquaredError",
    "msle": "MeanSquaredLogError",
    "pearson": "PearsonCorrCoef",
    "r2": "R2Score",
    "smape": "SymmetricMeanAbsolutePercentageError",
    "spearman": "SpearmanCorrCoef",
}
# Short names that stand for a class and its options.
WITH_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "balanced_acc": ("Accuracy", {"average": "macro"}),
    "rmse": ("MeanSquaredError", {"squared": False}),
}
SOURCES: dict[str, tuple[ModuleType, str]] = {
    "classification": (classification, "Multiclass"),
    "multilabel": (classification, "Multilabel"),
    "regression": (regression, ""),
}
DEFAULTS: dict[str, list[Spec]] = {
    "classification": ["acc", "f1"],
    "multilabel": ["acc", "f1"],
    "regression": ["mae", "r2"],
}
# They are the same in any unit; standardised values lose fewer digits.
WITHOUT_UNIT = (
    "ConcordanceCorrCoef",
    "ExplainedVariance",
    "KendallRankCorrCoef",
    "PearsonCorrCoef",
    "SpearmanCorrCoef",
)


def classification_metrics(
    specs: Sequence[Spec] | None, task: str, class_names: Sequence[str]
) -> dict[str, Metric]:
    """Metrics of class probabilities.

    Args:
        specs: names, or dictionaries of `name`, the metric's options and `as`, the name to log it
            under; or of `name` and `metric`, a metric. None for the default of the task.
        task: "classification" or "multilabel".
        class_names: names of the classes or labels.

    Raises:
        UserError: there is no such metric or option, or two would be logged under one name.
    """

    def build(logged: str, name: str, options: dict[str, Any]) -> dict[str, Metric]:
        found = find_class(name, task)
        found = WITHOUT_WAITING.get(found, found)
        if found.__name__.endswith("Accuracy"):
            options = {"average": "micro"} | options
        number = "num_labels" if task == "multilabel" else "num_classes"
        metric = build_metric(name, found, options | {number: len(class_names)})
        # Validating the labels would synchronise with the GPU in every step.
        metric.validate_args = False
        if options.get("average", "micro") in (None, "none"):
            metric = ClasswiseWrapper(metric, endings(class_names), prefix=f"{logged}_")
        return {logged: metric}

    return build_all(specs, task, build)


def regression_metrics(
    specs: Sequence[Spec] | None,
    targets: Sequence[str],
    means: Sequence[float],
    stds: Sequence[float],
) -> dict[str, Metric]:
    """Metrics of standardised values, in the unit of each target.

    With several targets there is one metric per target, such as `mae_<target>`, except that R2 is
    one metric, the mean over the targets.

    Args:
        specs: see `classification_metrics`.
        targets: their names.
        means: what was subtracted from each target.
        stds: what the differences were divided by.

    Raises:
        UserError: see `classification_metrics`.
    """

    def build(logged: str, name: str, options: dict[str, Any]) -> dict[str, Metric]:
        found = find_class(name, "regression")
        if found is R2Score:
            return {logged: build_metric(name, R2, options | {"num_targets": len(targets)})}
        columns = [None] if len(targets) == 1 else range(len(targets))
        names = [logged] if len(targets) == 1 else [f"{logged}_{end}" for end in endings(targets)]
        return {
            one: OfTarget(build_metric(name, found, options), column, **unit(found, options, *m))
            for one, column, *m in zip(names, columns, means, stds, strict=True)
        }

    return build_all(specs, "regression", build)


def endings(names: Sequence[str]) -> list[str]:
    """Unique names of classes or targets with which the name of a metric can end.

    PyTorch allows no dots in names of modules, MLflow few special characters in names of metrics.
    """
    plain = [re.sub(r"[^\w -]", "_", name) for name in names]
    return [
        f"{name}_{place}" if plain.count(name) > 1 else name for place, name in enumerate(plain)
    ]


def build_all(
    specs: Sequence[Spec] | None,
    task: str,
    build: Callable[[str, str, dict[str, Any]], dict[str, Metric]],
) -> dict[str, Metric]:
    """The metrics of all specs; `build(logged, name, options)` makes those of one spec."""
    metrics: dict[str, Metric] = {}
    for spec in DEFAULTS[task] if specs is None else specs:
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = str(options.pop("name", None))
        logged = str(options.pop("as", name))
        if "." in logged:
            raise UserError(
                f"model.metrics: the name {logged!r} contains a dot, which is not allowed."
            )
        if isinstance(metric := options.get("metric"), Metric):
            built = {logged: metric}
        else:
            built = build(logged, name, dict(WITH_OPTIONS.get(name, ("", {}))[1]) | options)
        if twice := sorted(metrics.keys() & built.keys() | {"loss"} & built.keys()):
            raise UserError(
                f"model.metrics has two metrics {twice[0]!r}: log one under another name, as in "
                f"{{name: {name}, as: {logged}_2}}."
            )
        metrics |= built
    return metrics


def find_class(name: str, task: str) -> type[Metric]:
    """The class of torchmetrics that a name stands for in a task.

    Raises:
        UserError: there is none.
    """
    prefix, classes = SOURCES[task][1], classes_of(task)
    long, _ = WITH_OPTIONS.get(name, (SHORT_NAMES.get(name, name), {}))
    keys = {_key(key): key for key in classes}
    key = _key(long)
    found = keys.get(key, keys.get(key.removeprefix(prefix.lower())))
    if found is None:
        short = SHORT_NAMES | {name: long for name, (long, _) in WITH_OPTIONS.items()}
        known = [name for name, long in short.items() if long in classes]
        raise UserError(f"There is no metric {name!r} for {task}; {nearest(name, known)}")
    return classes[found]


@cache
def classes_of(task: str) -> dict[str, type[Metric]]:
    """The classes of torchmetrics for a task, by their names in it."""
    module, prefix = SOURCES[task]
    return {
        key.removeprefix(prefix): value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Metric) and key.startswith(prefix)
    }


def build_metric(name: str, metric_class: type[Metric], options: Mapping[str, Any]) -> Metric:
    """Build a metric.

    Raises:
        UserError: it rejects an option.
    """
    try:
        return metric_class(**options)
    except (TypeError, ValueError) as error:
        raise cannot_build("metric", name, options, error) from error


def unit(
    found: type[Metric], options: Mapping[str, Any], mean: float, std: float
) -> dict[str, Any]:
    """The arguments of `OfTarget` that convert a metric to the target's own unit."""
    if found is MeanAbsoluteError:
        return {"factor": std}
    if found is MeanSquaredError:
        return {"factor": std**2 if options.get("squared", True) else std}
    return {} if found.__name__ in WITHOUT_UNIT else {"mean": mean, "std": std}


def _key(name: str) -> str:
    return name.replace("_", "").lower()


def logged_names(metrics: MetricCollection, predictions: Tensor, targets: Tensor) -> list[str]:
    """The names that a collection logs, of which a wrapper may have several.

    Args:
        metrics: the collection, which is not changed.
        predictions: predictions for made-up samples, in the form that the metrics expect.
        targets: their targets.

    Raises:
        UserError: a metric has more than one value under one name, which cannot be logged.
    """
    values = _compute_copy(metrics) or _compute_copy(metrics, predictions, targets)
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() > 1:
            raise UserError(
                f"{name} has {value.numel()} values, and only one can be logged: average them, or "
                "wrap the metric in torchmetrics.ClasswiseWrapper."
            )
        if isinstance(value, tuple | list):
            raise UserError(f"{name} is a curve, which cannot be logged.")
    # Unwrapped metrics that need other samples than these are logged under their own names.
    return list(map(str, values or metrics.keys()))


def _compute_copy(metrics: MetricCollection, *samples: Tensor) -> dict[str, Tensor]:
    """The values that a copy of a collection computes; empty if that fails.

    Metrics that count have a value without samples; metrics that keep the samples need some.
    """
    copy = metrics.clone()
    for module in copy.modules():
        if isinstance(module, Metric):
            module.sync_on_compute = False
    # Without samples, some metrics warn and others raise.
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        if samples:
            copy.update(*samples)
        values: dict[str, Tensor] = copy.compute()
        return values
    return {}
