"""A metric that is waited for in vain ends the training as soon as that is certain."""

import inspect
import re
from collections.abc import Mapping

from pytorch_lightning import LightningModule, Trainer

from ..errors import UserError
from .epoch_end import EpochEndCallback


class ObjectiveCheck(EpochEndCallback):
    """Checks the metrics that are monitored, for a model that does not declare what it logs.

    A validation metric is known after the first validation, Lightning's check before the training
    included; any other metric after the first epoch with a validation.

    Args:
        monitored: who monitors, such as `objective.metric`, and the name of the metric.
    """

    def __init__(self, monitored: Mapping[str, str]) -> None:
        self.monitored = dict(monitored)
        self._has_validated = False
        self._logged: set[str] = set()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the metrics of a validation.

        Raises:
            UserError: one is missing.
        """
        self._logged.update(trainer.callback_metrics)
        if not trainer.sanity_checking:
            self._has_validated = True
        elif knows_sanity_check(type(pl_module)):
            # It may log something else there.
            return
        measured = self.measured_in_validation(trainer)
        endless = trainer.num_training_batches == float("inf") and not trainer.sanity_checking
        for owner, metric in self.monitored.items():
            if endless or any(is_alike(metric, name) for name in measured):
                self._check(owner, metric, pl_module)

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check all metrics, unless a later epoch is the first to validate.

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
    """Whether two names begin with the same word, as `val/loss` and `val_acc` do."""
    return re.split(r"[/_\W]", metric)[0] == re.split(r"[/_\W]", other)[0]


def knows_sanity_check(model_class: type[LightningModule]) -> bool:
    """Whether a model's own code asks if it is in Lightning's check before the training."""
    return any(
        "sanity_checking" in function.__code__.co_names
        for owner in model_class.__mro__
        if owner is not LightningModule and issubclass(owner, LightningModule)
        for function in vars(owner).values()
        if inspect.isfunction(function)
    )
