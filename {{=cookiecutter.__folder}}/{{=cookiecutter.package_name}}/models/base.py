"""What all models share: means over an epoch, optimizer and schedule."""

import math
from collections.abc import Callable
from typing import Self

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from .optimizers import build_optimizer
from .precision import EpochMean, apply_to_weights
from .schedulers import Horizon, build_scheduler


class BaseModule(LightningModule):
    """A model that `train.py` can train, save, resume and test, whatever it learns from.

    A subclass saves its hyperparameters (`optimizer` and `scheduler` among them), builds its
    network as `self.net`, names with `add_means` what it logs, and has the usual steps.

    Values are added up at every step and logged once per epoch: logging at every step costs about
    half of a fit of a small network.
    """

    net: nn.Module
    smallest_batch: int = 1  # samples that a training batch needs

    def add_means(self, *names: str) -> None:
        """Log the mean over an epoch of each of these, for example `val/loss`."""
        self.means = nn.ModuleDict({name: EpochMean() for name in names})

    def measure(self, name: str, value: Tensor, count: int) -> None:
        """Add a batch to the mean over the epoch.

        Args:
            name: one of those given to `add_means`.
            value: a scalar, the mean over the batch.
            count: number of samples in the batch.
        """
        self.means[name].update(value.detach(), count)  # type: ignore[operator]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # torch calls this for every `.to(...)`, so also for `trainer.precision=bf16-true`.
        apply_to_weights(self, lambda: super(BaseModule, self)._apply(fn, recurse), fn)
        return self

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs once per epoch, for example `val/loss`."""
        return list(self.means)

    def epoch_values(self, stage: str) -> dict[str, Tensor]:
        """The means of a stage's epoch; they start anew."""
        means = {name: mean for name, mean in self.means.items() if name.startswith(f"{stage}/")}
        values = {name: mean.compute() for name, mean in means.items()}  # type: ignore[operator]
        for mean in means.values():
            mean.reset()  # type: ignore[operator]
        return values

    def log_epoch(self, stage: str) -> None:
        """Log the values of a stage's epoch."""
        # compute() has already gathered all processes; sync_dist only tells Lightning so.
        self.log_dict(self.epoch_values(stage), sync_dist=True)

    def on_train_epoch_end(self) -> None:
        """Log the means over the epoch."""
        self.log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation part."""
        self.log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Log the means over the test part."""
        self.log_epoch("test")

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule from their configs."""
        horizon = self._horizon()
        optimizer = build_optimizer(self.hparams["optimizer"], self.parameters())
        schedule = build_scheduler(self.hparams["scheduler"], optimizer, horizon)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _horizon(self) -> Horizon:
        # The number of batches is only known once the loaders are there.
        self.trainer.fit_loop.setup_data()
        total = self.trainer.estimated_stepping_batches
        per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return Horizon(total, math.ceil(per_epoch))
