"""Exponential moving average of the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from ..errors import UserError
from .averaging import WeightAverage


class EMA(WeightAverage):
    """Averages the weights of all steps, recent ones the most, and validates the average.

    The noise of single steps falls out, much as at a lower learning rate but without its slowness.
    Validation, early stopping and the best checkpoint go by the averaged weights; the last
    checkpoint holds the weights in training, from which a run goes on.

    Args:
        path: checkpoint file of the averaged weights at the end of the training.
        decay: share of the old average that a step leaves, above 0 and below 1. The average spans
            about 1 / (1 - decay) steps. In the first steps it is lower, (1 + n) / (10 + n) after n
            steps, so that the weights before training are soon forgotten.
        start: share of the training after which averaging begins; validation and checkpoints have
            the weights in training until then.

    Raises:
        UserError: `decay` is no such share.
    """

    def __init__(self, path: str, decay: float = 0.99, start: float = 0.0) -> None:
        if not 0 < decay < 1:
            raise UserError(f"decay of EMA is a share above 0 and below 1, not {decay!r}.")
        super().__init__(path, start)
        self.decay = decay
        self._last_step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from the step where the run starts or goes on."""
        super().on_train_start(trainer, pl_module)
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average, once a step: with gradient accumulation a step has several batches."""
        if trainer.global_step == self._last_step or not self.has_begun(trainer):
            return
        self._last_step = trainer.global_step
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        self.update(pl_module, share=1 - decay)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the averaged weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            self.put_in(pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Train on with the weights in training."""
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
