"""Metrics by name: any class of torchmetrics that fits the task, under a short or its own name."""

import re
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from torchmetrics import (
    ClasswiseWrapper,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    R2Score,
    classification,
    regression,
)

from ..errors import UserError, cannot_build, nearest
from .regression_metrics import R2, OfTarget

Spec = str | Mapping[str, Any]

# Beside the names of torchmetrics, in any case, with or without underscores and the task's prefix.
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
# The same in any unit, so they are computed from standardised values, which have more digits left.
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
            under; or of `name` and `metric`, a metric; None for the default of the task.
        task: "classification" or "multilabel".
        class_names: names of the classes or labels.

    Raises:
        UserError: there is no such metric or option, or two would be logged under one name.
    """

    def build(logged: str, name: str, options: dict[str, Any]) -> dict[str, Metric]:
        found = find_class(name, task)
        if found.__name__.endswith("Accuracy"):
            options = {"average": "micro"} | options
        number = "num_labels" if task == "multilabel" else "num_classes"
        metric = build_metric(name, found, options | {number: len(class_names)})
        # Checking the labels at every step would wait for the GPU at every step.
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

    With several targets there is one of each metric per target, as `mae_<target>`, and one R2,
    which is the mean.

    Args:
        specs: see `classification_metrics`.
        targets: their names.
        means: what was subtracted from each target.
        stds: what the difference was divided by.

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
    """Names of classes or targets, each different and fit to end the name of a metric.

    PyTorch takes no points in the names of modules, MLflow only a few characters in those of
    metrics.
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
    """The metrics of all specs; `build` makes those of one from its logged name, name, options."""
    metrics: dict[str, Metric] = {}
    for spec in DEFAULTS[task] if specs is None else specs:
        options = {"name": spec} if isinstance(spec, str) else dict(spec)
        name = str(options.pop("name", None))
        logged = str(options.pop("as", name))
        if "." in logged:
            raise UserError(
                f"model.metrics: {logged!r} has a point, which no metric's name can have."
            )
        if isinstance(options.get("metric"), Metric):
            built = {logged: options["metric"]}
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
    """The class of torchmetrics that a name means for a task.

    Raises:
        UserError: there is none.
    """
    module, prefix = SOURCES[task]
    classes = {
        key.removeprefix(prefix): value
        for key, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Metric) and key.startswith(prefix)
    }
    long, _ = WITH_OPTIONS.get(name, (SHORT_NAMES.get(name, name), {}))
    keys = {_key(key): key for key in classes}
    key = _key(long)
    found = keys.get(key, keys.get(key.removeprefix(prefix.lower())))
    if found is None:
        short = SHORT_NAMES | {name: long for name, (long, _) in WITH_OPTIONS.items()}
        known = [name for name, long in short.items() if long in classes]
        raise UserError(f"There is no metric {name!r} for {task}; {nearest(name, known)}")
    return classes[found]


def build_metric(name: str, metric_class: type[Metric], options: Mapping[str, Any]) -> Metric:
    """Build a metric.

    Raises:
        UserError: it has no such option, or not with this value.
    """
    try:
        return metric_class(**options)
    except (TypeError, ValueError) as error:
        raise cannot_build("metric", name, options, error) from error


def unit(
    found: type[Metric], options: Mapping[str, Any], mean: float, std: float
) -> dict[str, Any]:
    """What converts a metric to the target's own unit, as arguments of `OfTarget`."""
    if found is MeanAbsoluteError:
        return {"factor": std}
    if found is MeanSquaredError:
        return {"factor": std**2 if options.get("squared", True) else std}
    return {} if found.__name__ in WITHOUT_UNIT else {"mean": mean, "std": std}


def _key(name: str) -> str:
    return name.replace("_", "").lower()
