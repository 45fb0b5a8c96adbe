"""The base class of models: optimizer and learning-rate schedule from the configs."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Self

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from .optimizers import Horizon, build_optimizer, build_scheduler
from .precision import apply_to_weights


class BaseModule(LightningModule):
    """A LightningModule whose optimizer and learning-rate schedule come from the configs.

    A subclass saves its hyperparameters (including `optimizer` and `scheduler`) and defines the
    usual steps and hooks of Lightning.

    Attributes:
        smallest_batch: the number of samples that a training batch needs.
    """

    smallest_batch: int = 1

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # torch calls this for every `.to(...)`, including `trainer.precision=bf16-true`.
        apply_to_weights(self, lambda: super(BaseModule, self)._apply(fn, recurse), fn)
        return self

    @property
    def metric_names(self) -> list[str] | None:
        """Every name that this model logs, such as `val/loss`; None if it does not declare them.

        With the names, a wrong objective is rejected before training.
        """
        return None

    def parameter_groups(self) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
        """The parameters to optimize, or groups of them with their own options.

        Override it to train some at another rate, without weight decay, or not at all:
        `[{"params": [...], "weight_decay": 0.0}, {"params": [...]}]`.
        """
        return self.parameters()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and the schedule from their configs."""
        horizon = self._horizon()
        optimizer = build_optimizer(self.hparams["optimizer"], self.parameter_groups())
        schedule = build_scheduler(self.hparams["scheduler"], optimizer, horizon)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _horizon(self) -> Horizon:
        # The number of batches is known only once the loaders exist.
        self.trainer.fit_loop.setup_data()
        total = self.trainer.estimated_stepping_batches
        per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return Horizon(total, math.ceil(per_epoch))
