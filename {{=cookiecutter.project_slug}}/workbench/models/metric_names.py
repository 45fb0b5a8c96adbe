"""The names under which metrics are logged, as `compute` gives them: a wrapper may log several."""

import warnings
from contextlib import suppress

from torch import Tensor
from torchmetrics import Metric, MetricCollection

from ..errors import UserError


def logged_names(metrics: MetricCollection, predictions: Tensor, targets: Tensor) -> list[str]:
    """The names of the values that a collection computes; the collection stays as it is.

    Args:
        metrics: the collection.
        predictions: of made-up samples, in the form that the metrics take.
        targets: theirs.

    Raises:
        UserError: a metric has more than one value under one name, which cannot be logged.
    """
    values = _compute_copy(metrics) or _compute_copy(metrics, predictions, targets)
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() > 1:
            raise UserError(
                f"{name} has {value.numel()} values and can only be logged as one: average them, "
                "or wrap the metric in torchmetrics.ClasswiseWrapper."
            )
        if isinstance(value, tuple | list):
            raise UserError(f"{name} is no number but a curve, which cannot be logged.")
    # Metrics that take other samples than these are logged under their own names if unwrapped.
    return list(map(str, values or metrics.keys()))


def _compute_copy(metrics: MetricCollection, *samples: Tensor) -> dict[str, Tensor]:
    """What a copy of a collection computes; empty where that fails.

    Metrics that count give a value without samples, those that keep the samples need some.
    """
    copy = metrics.clone()
    for module in copy.modules():
        if isinstance(module, Metric):
            module.sync_on_compute = False
    # Some metrics warn that they have seen nothing, others refuse to compute.
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        if samples:
            copy.update(*samples)
        values: dict[str, Tensor] = copy.compute()
        return values
    return {}
