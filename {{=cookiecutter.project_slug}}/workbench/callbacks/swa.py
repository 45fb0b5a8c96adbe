"""Stochastic weight averaging: the mean of the weights at the ends of the last epochs."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from .averaging import WeightAverage

# A schedule that is stepped once in so many steps stands still.
NEVER = 2**62


class SWA(WeightAverage):
    """Averages the weights at the end of every epoch from `start` on, all with the same share.

    Weights that wander around in a flat valley have their mean in its middle, where the test error
    is often lower (https://arxiv.org/abs/1803.05407). Training, validation and the other
    checkpoints do not notice; the average is tested beside them.

    Args:
        path: checkpoint file of the averaged weights.
        start: share of the training after which the epochs count.
        hold_rate: keep the learning rate of that moment, so that the weights go on wandering; a
            schedule that goes down to nothing would average weights that hardly differ.
    """

    def __init__(self, path: str, start: float = 0.75, hold_rate: bool = True) -> None:
        super().__init__(path, start)
        self.hold_rate = hold_rate
        self._is_holding = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume, stop a schedule that was stopped before the model makes a step of it."""
        super().on_train_start(trainer, pl_module)
        if self._is_holding and self.has_begun(trainer):
            self._hold(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the schedule in the first epoch that counts."""
        if trainer.global_step >= self._first_step:
            self._hold(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the weights at the end of the epoch to the average."""
        if not self.has_begun(trainer):
            self.count = 0  # a finished run that is prolonged starts its average anew
            return
        self.update(pl_module, share=1 / (self.count + 1))

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the statistics of batch normalisation anew: the averaged weights never had any.

        The model's `forward` has to go through every BatchNorm layer.
        """
        with trainer.precision_plugin.train_step_context():
            update_bn(_training_batches(trainer), pl_module)
        for module in pl_module.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                # Each process has seen its own part of the data.
                for name in ("running_mean", "running_var"):
                    value = getattr(module, name)
                    value.copy_(trainer.strategy.reduce(value.clone(), reduce_op="mean"))

    def state_dict(self) -> dict[str, Any]:
        """The average, and whether the schedule is stopped."""
        return super().state_dict() | {"is_holding": self._is_holding}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue with the average of the checkpoint."""
        super().load_state_dict(state_dict)
        self._is_holding = state_dict["is_holding"]

    def _hold(self, trainer: Trainer) -> None:
        self._is_holding = True
        if self.hold_rate:
            for schedule in trainer.lr_scheduler_configs:
                schedule.frequency = NEVER


def _training_batches(trainer: Trainer) -> Iterator[Any]:
    """As many batches as an epoch of the run has, on the model's device."""
    assert trainer.train_dataloader is not None
    for batch in islice(trainer.train_dataloader, int(trainer.num_training_batches)):
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
