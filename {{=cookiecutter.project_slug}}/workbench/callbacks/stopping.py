"""Ends a training between two batches, with a checkpoint of the point reached."""

import logging
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.connectors.signal_connector import _HandlersCompose

from ..runs.ending import INTERRUPTED, TERMINATED, Ending, EndsTraining
from .after_module import after_module
from .last_checkpoint import LastCheckpoint, is_validation_due, is_within_epoch

log = logging.getLogger(__name__)


class Stopping(EndsTraining, Callback):
    """Saves and ends the training at the first Ctrl-C, at SIGTERM, or when a callback asks for it.

    A validation that is due after the batch, or in progress, is completed first. The second Ctrl-C
    stops at once.

    It comes after all callbacks but the checkpoints: what they do after a batch is saved.
    """

    def __init__(self) -> None:
        self.is_leaving = False
        self._is_agreed = False
        self._handler: Any = None
        self._requeue: Callable[[], None] | None = None
        self._is_requeued_later = False

    def ask(self, ending: Ending) -> None:
        """End the training after the batch in progress; the first who asks is the reason."""
        self.ending = self.ending or ending

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Be the first at the end of an epoch, too."""
        if stage == "fit":
            trainer.callbacks = [_NoEpochEnd(self), *trainer.callbacks]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C, where it would end the process."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handler = signal.signal(signal.SIGINT, self._interrupted)
        requeue = signal.getsignal(signal.SIGUSR1)
        if is_main and isinstance(requeue, _HandlersCompose):
            self._is_requeued_later = True
            signal.signal(signal.SIGUSR1, partial(self._requeue_later, trainer, requeue))

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Leave; the batch or the validation before was saved at its end."""
        if self._is_agreed:
            self._leave()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, where no validation and no end of the epoch comes next."""
        if self._is_requeued_later:
            save = partial(self._save_and_requeue, trainer)
            after_module(pl_module, "on_train_batch_end", save)
        self._agree(trainer)
        if self._is_agreed and not (trainer.is_last_batch or is_validation_due(trainer)):
            after_module(pl_module, "on_train_batch_end", partial(_save, trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notice what was asked for during the validation."""
        if is_within_epoch(trainer):
            self._agree(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin no other epoch."""
        self._agree(trainer)
        trainer.should_stop = trainer.should_stop or self._is_agreed

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give Ctrl-C back."""
        self._release()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Give Ctrl-C back."""
        self._release()

    def _agree(self, trainer: Trainer) -> None:
        """Let all processes end together: a signal may come to one alone, or between batches."""
        if trainer.received_sigterm:
            self.ask(TERMINATED)
        self._is_agreed = self.ending is not None
        if trainer.world_size > 1:
            self._is_agreed = trainer.strategy.reduce_boolean_decision(self._is_agreed, all=False)
        if self._is_agreed:
            self.ask(INTERRUPTED)

    def _requeue_later(
        self, trainer: Trainer, requeue: Callable[..., None], signum: int, frame: FrameType | None
    ) -> None:
        """SLURM's warning: Lightning saves and requeues, but not in the middle of a batch."""
        if trainer.training:
            self._requeue = partial(requeue, signum, frame)
        else:
            # A validation may take longer than the time that is left.
            requeue(signum, frame)

    def _save_and_requeue(self, trainer: Trainer) -> None:
        is_due = self._requeue is not None
        if trainer.world_size > 1:
            is_due = trainer.strategy.reduce_boolean_decision(is_due, all=True)
        if is_due and self._requeue is not None:
            requeue, self._requeue = self._requeue, None
            requeue()

    def _leave(self) -> None:
        self.is_leaving = True
        # This is how Lightning's own loops are left.
        raise StopIteration

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:
        self._release()
        log.warning("Ctrl-C: the training is saved and ends; press it again to stop at once")
        self.ask(INTERRUPTED)

    def _release(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None


def _save(trainer: Trainer) -> None:
    for callback in trainer.callbacks:
        if isinstance(callback, LastCheckpoint):
            callback.save(trainer)


class _NoEpochEnd(Callback):
    """Spares an epoch that is left within the work that is done at its end."""

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the loop over the epochs."""
        if self.stopping.is_leaving:
            raise StopIteration
