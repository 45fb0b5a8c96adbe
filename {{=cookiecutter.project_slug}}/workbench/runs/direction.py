"""An objective that would be optimised in the wrong direction."""

import logging
import re
from collections.abc import Sequence

from ..errors import UserError

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
