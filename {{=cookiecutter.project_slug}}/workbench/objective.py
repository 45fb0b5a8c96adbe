"""The metrics that a run optimises and monitors: they are logged, and in the right direction."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig

from .checks import check_choice
from .errors import UserError, nearest

log = logging.getLogger(__name__)

# Words in the names of metrics; others say nothing about the direction.
SMALL_IS_GOOD = {"loss", "error", "mae", "mse", "rmse", "nll", "perplexity", "ppl", "wer", "cer"}
LARGE_IS_GOOD = {
    "acc",
    "accuracy",
    "f1",
    "auc",
    "auroc",
    "r2",
    "precision",
    "recall",
    "iou",
    "dice",
}


def check_direction(metric: str | None, mode: str, given: Sequence[str]) -> None:
    """Refuse a command that changes the metric and inherits a direction that does not suit it.

    Args:
        metric: the objective.
        mode: "min" or "max".
        given: the options of the command. One that sets `objective.mode` is believed.

    Raises:
        UserError: the command names a loss to maximise or an accuracy to minimise; if a config file
            does, this is only logged.
    """
    keys = [option.partition("=")[0].lstrip("+") for option in given]
    right = direction_of(metric or "")
    if right in (None, mode) or "objective.mode" in keys:
        return
    verb = "maximise" if mode == "max" else "minimise"
    sentence = f"objective.mode={mode} would {verb} {metric}"
    if "objective.metric" in keys:
        raise UserError(f"{sentence}: add objective.mode={right} to the command.")
    log.warning("%s; set objective.mode=%s if that is not meant", sentence, right)


def direction_of(metric: str) -> str | None:
    """The mode that suits the words in the name of a metric; None if they say nothing."""
    words = set(re.split(r"[/_\W]+", metric.lower()))
    is_small, is_large = bool(words & SMALL_IS_GOOD), bool(words & LARGE_IS_GOOD)
    if is_small == is_large:
        return None
    return "min" if is_small else "max"


def monitored_metrics(cfg: DictConfig, callbacks: Iterable[object]) -> dict[str, str]:
    """The metrics that are monitored, by the option or the callback that names them.

    Raises:
        UserError: the objective has no direction.
    """
    check_choice("objective.mode", cfg.objective.mode, ("min", "max"))
    monitored = {"objective.metric": cfg.objective.metric}
    monitored |= {f"the monitor of {type(c).__name__}": monitor_of(c) for c in callbacks}
    return {owner: str(metric) for owner, metric in monitored.items() if metric is not None}


def check_objective(monitored: Mapping[str, str], metric_names: Sequence[str]) -> None:
    """Refuse to monitor a metric that the model does not log.

    Raises:
        UserError: the first that is never logged.
    """
    for owner, metric in monitored.items():
        if metric not in metric_names:
            raise UserError(
                f"{owner} is {metric!r}, which the model does not log; "
                f"{nearest(metric, metric_names)}"
            )


def monitor_of(callback: object) -> Any:
    """The metric that a callback monitors, None for most."""
    return getattr(callback, "monitor", None)
