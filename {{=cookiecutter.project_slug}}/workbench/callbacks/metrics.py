"""Checks of the metrics that a run monitors, and their precision."""

import inspect
import re
from collections.abc import Mapping

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from ..errors import UserError
from .hooks import EpochEndCallback

HALF = (torch.float16, torch.bfloat16)


class ObjectiveCheck(EpochEndCallback):
    """Checks the monitored metrics of a model that does not declare which metrics it logs.

    Validation metrics are known after the first validation, Lightning's sanity check included;
    other metrics after the first epoch with a validation.

    Args:
        monitored: name of each monitored metric by its owner, such as `objective.metric`.
    """

    def __init__(self, monitored: Mapping[str, str]) -> None:
        self.monitored = dict(monitored)
        self._has_validated = False
        self._logged: set[str] = set()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the validation metrics.

        Raises:
            UserError: one is missing.
        """
        self._logged.update(trainer.callback_metrics)
        if not trainer.sanity_checking:
            self._has_validated = True
        elif knows_sanity_check(type(pl_module)):
            # It may log other metrics there.
            return
        measured = self.measured_in_validation(trainer)
        endless = trainer.num_training_batches == float("inf") and not trainer.sanity_checking
        for owner, metric in self.monitored.items():
            if endless or any(is_alike(metric, name) for name in measured):
                self._check(owner, metric, pl_module)

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all metrics, unless no validation has taken place yet.

        Raises:
            UserError: one is missing.
        """
        self._logged.update(trainer.callback_metrics)
        if self._has_validated or not trainer.enable_validation:
            for owner, metric in self.monitored.items():
                self._check(owner, metric, pl_module)

    def _check(self, owner: str, metric: str, pl_module: LightningModule) -> None:
        if metric in self._logged:
            return
        name = type(pl_module).__name__
        if not self._logged:
            raise UserError(
                f"{owner} is {metric!r}, but {name} logs no metric: log one with self.log, or "
                "train without an objective by objective=null."
            )
        logged = ", ".join(sorted(self._logged))
        raise UserError(f"{owner} is {metric!r}, which {name} does not log; it logs {logged}.")


def is_alike(metric: str, other: str) -> bool:
    """Whether two names start with the same word, as `val/loss` and `val_acc` do."""
    return re.split(r"[/_\W]", metric)[0] == re.split(r"[/_\W]", other)[0]


def knows_sanity_check(model_class: type[LightningModule]) -> bool:
    """Whether a model's own code distinguishes Lightning's sanity check."""
    return any(
        "sanity_checking" in function.__code__.co_names
        for owner in model_class.__mro__
        if owner is not LightningModule and issubclass(owner, LightningModule)
        for function in vars(owner).values()
        if inspect.isfunction(function)
    )


class MetricPrecision(Callback):
    """Keeps torchmetrics in float32 with `trainer.precision=bf16-true` or `16-true`.

    In bfloat16 256 + 1 is 256, so a count of samples would stop there.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Convert the states before anything is measured."""
        for module in pl_module.modules():
            # Not by `_dtype`, which moving the model to its device resets to float32.
            if isinstance(module, Metric) and any(is_half(s) for s in module.metric_state.values()):
                module.set_dtype(torch.float32)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same for a validation without training."""
        self.on_fit_start(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same for a test."""
        self.on_fit_start(trainer, pl_module)


def is_half(state: Tensor | list[Tensor]) -> bool:
    """Whether a metric state is in half precision; lists of batches are not summed."""
    return isinstance(state, Tensor) and state.dtype in HALF
