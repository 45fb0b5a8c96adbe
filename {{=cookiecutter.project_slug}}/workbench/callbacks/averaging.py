"""SWA and EMA: a second, averaged set of weights beside the ones in training."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn, update_bn

from ..checks import check_number

log = logging.getLogger(__name__)

# A schedule that is stepped this rarely stands still.
NEVER = 2**62


class WeightAverage(Callback):
    """Maintains an average of the weights and saves it to a file of its own when training ends.

    The training itself is unaffected. The average is part of every checkpoint, so a resumed run
    continues it; it draws no random numbers.

    Args:
        path: checkpoint file of the averaged weights.
        start: fraction of the training after which averaging begins, in [0, 1).

    Attributes:
        average: the averaged parameters and buffers by name, in float32 or better.
        count: number of weight sets in the average; 0 before it has begun.
        is_saved: whether this run wrote the file.

    Raises:
        UserError: `start` is out of range.
    """

    def __init__(self, path: str, start: float) -> None:
        check_number(f"callbacks.{type(self).__name__.lower()}.start", start, least=0, below=1)
        self.path = Path(path)
        self.start = start
        self.average: dict[str, Tensor] = {}
        self.count = 0
        self.is_saved = False
        self._first_step = 0
        # The weights in training, while the averaged ones take their place in the model.
        self._in_training: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Continue from the weights in training if the checkpoint contains the averaged ones."""
        self.put_back(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the step where averaging begins, and move a restored average to the device."""
        if self.start > 0:
            self._first_step = round(self.start * trainer.estimated_stepping_batches)
        self.average = {name: value.to(pl_module.device) for name, value in self.average.items()}

    def has_begun(self, trainer: Trainer) -> bool:
        """Whether the training has reached the steps that are averaged."""
        return trainer.global_step > self._first_step

    @torch.no_grad()
    def update(self, pl_module: LightningModule, weight: float) -> None:
        """Move the average towards the current weights by this fraction of the distance."""
        # In bfloat16 small fractions would be rounded away.
        current = {
            name: value.to(torch.promote_types(value.dtype, torch.float32), copy=self.count == 0)
            for name, value in _tensors(pl_module).items()
            if value.is_floating_point()
        }
        if self.count == 0:
            self.average = current
        else:
            move = get_ema_multi_avg_fn(1 - weight)
            move([*self.average.values()], [current[name] for name in self.average], None)
        self.count += 1

    @torch.no_grad()
    def put_in(self, pl_module: LightningModule) -> None:
        """Put the averaged weights into the model, if there are any."""
        if self.count == 0:
            return
        current = _tensors(pl_module)
        self._in_training = {name: value.clone() for name, value in current.items()}
        for name, value in self.average.items():
            current[name].copy_(value)

    @torch.no_grad()
    def put_back(self, pl_module: LightningModule) -> None:
        """Put the weights in training back into the model, if they were replaced."""
        current = _tensors(pl_module)
        for name, value in self._in_training.items():
            current[name].copy_(value)
        self._in_training = {}

    @contextmanager
    def in_place(self, pl_module: LightningModule) -> Iterator[None]:
        """The averaged weights are in the model within this context."""
        self.put_in(pl_module)
        try:
            yield
        finally:
            self.put_back(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the averaged weights in a checkpoint for evaluation and prediction."""
        if self.count == 0:
            log.info(
                "%s: training ended before averaging began, so there are no averaged weights",
                type(self).__name__,
            )
            return
        with self.in_place(pl_module):
            self.prepare(trainer, pl_module)
            if not trainer.fast_dev_run:
                trainer.save_checkpoint(self.path, weights_only=True)
                self.is_saved = True

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Complete the averaged weights, which are in the model now, before they are saved."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the average: a validation after training measures the model's own weights."""
        if stage == "fit":
            self.average, self.count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """The average, for the checkpoint."""
        return {"average": self.average, "count": self.count, "in_training": self._in_training}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the average."""
        self.average = dict(state_dict["average"])
        self.count = state_dict["count"]
        self._in_training = dict(state_dict["in_training"])


def _tensors(pl_module: LightningModule) -> dict[str, Tensor]:
    """Parameters and buffers by name, not copied."""
    return {**dict(pl_module.named_parameters()), **dict(pl_module.named_buffers())}


class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of the weights at the end of the last epochs.

    Weights that wander around in a flat valley have their mean in its middle, where the test error
    is often lower (https://arxiv.org/abs/1803.05407). Training, validation and the other
    checkpoints are unaffected; the average is tested beside them.

    Args:
        path: checkpoint file of the averaged weights.
        start: fraction of the training after which epochs are averaged.
        hold_rate: keep the learning rate of that moment, so that the weights continue to move; with
            a schedule that decays to zero, the averaged weights would hardly differ.
    """

    def __init__(self, path: str, start: float = 0.75, hold_rate: bool = True) -> None:
        super().__init__(path, start)
        self.hold_rate = hold_rate
        self._is_holding = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After a resume, stop a stopped schedule again before the model steps it."""
        super().on_train_start(trainer, pl_module)
        if self._is_holding and self.has_begun(trainer):
            self._hold(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the schedule in the first epoch that is averaged."""
        if trainer.global_step >= self._first_step:
            self._hold(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the weights at the end of the epoch to the average."""
        if not self.has_begun(trainer):
            self.count = 0  # a finished run that is extended starts a new average
            return
        self.update(pl_module, weight=1 / (self.count + 1))

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Recompute the statistics of batch normalization, which averaged weights never had.

        The model's `forward` has to use every BatchNorm layer. Frozen ones keep their statistics,
        which belong to weights that were not averaged.
        """
        with trainer.precision_plugin.train_step_context(), _frozen_kept(pl_module):
            update_bn(_training_batches(trainer), pl_module)
        for module in pl_module.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                # Each process has seen a different part of the data.
                for name in ("running_mean", "running_var"):
                    value = getattr(module, name)
                    value.copy_(trainer.strategy.reduce(value.clone(), reduce_op="mean"))

    def state_dict(self) -> dict[str, Any]:
        """The average, and whether the schedule is stopped."""
        return super().state_dict() | {"is_holding": self._is_holding}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore both."""
        super().load_state_dict(state_dict)
        self._is_holding = state_dict["is_holding"]

    def _hold(self, trainer: Trainer) -> None:
        self._is_holding = True
        if self.hold_rate:
            for schedule in trainer.lr_scheduler_configs:
                schedule.frequency = NEVER


@contextmanager
def _frozen_kept(pl_module: LightningModule) -> Iterator[None]:
    """`update_bn` leaves frozen layers as they are, which it would reset like all others."""
    layers = [module for module in pl_module.modules() if isinstance(module, _BatchNorm)]
    frozen = [m for m in layers if m.affine and not any(p.requires_grad for p in m.parameters())]
    for module in frozen:
        module.eval()
        module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc]
        module.reset_running_stats = lambda: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        for module in frozen:
            del module.train, module.reset_running_stats


def _training_batches(trainer: Trainer) -> Iterator[Any]:
    """The batches of one epoch, on the model's device."""
    assert trainer.train_dataloader is not None
    for batch in islice(trainer.train_dataloader, int(trainer.num_training_batches)):
        yield trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


class EMA(WeightAverage):
    """Exponential moving average of the weights of all steps, which is also what is validated.

    It removes the noise of single steps, much as a lower learning rate would, but without slowing
    the training. Validation, early stopping and the best checkpoint use the averaged weights; the
    last checkpoint contains the weights in training, from which a run is resumed.

    Args:
        path: checkpoint file of the averaged weights at the end of the training.
        decay: weight of the old average at each step, above 0 and below 1. The average spans
            about 1 / (1 - decay) steps. During the first steps it is lower, (1 + n) / (10 + n)
            after n steps, so that the initial weights are soon forgotten.
        start: fraction of the training after which averaging begins; until then the weights in
            training are validated and saved.

    Raises:
        UserError: `decay` is out of range.
    """

    def __init__(self, path: str, decay: float = 0.99, start: float = 0.0) -> None:
        check_number("callbacks.ema.decay", decay, above=0, below=1)
        super().__init__(path, start)
        self.decay = decay
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step where the run starts or resumes."""
        super().on_train_start(trainer, pl_module)
        self._last_step = trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Update once per step: with gradient accumulation a step has several batches."""
        if trainer.global_step == self._last_step or not self.has_begun(trainer):
            return
        self._last_step = trainer.global_step
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        self.update(pl_module, weight=1 - decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averaged weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.put_in(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Return to the weights in training."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.put_back(pl_module)


@contextmanager
def validated_weights(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """The weights that validation measures are in the model within this context."""
    ema = next((c for c in trainer.callbacks if isinstance(c, EMA)), None)
    if ema is None:
        yield
        return
    with ema.in_place(pl_module):
        yield
