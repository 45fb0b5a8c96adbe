"""Callbacks that disturb a training at a chosen batch, for `+callbacks.<name>={_target_: ...}`."""

import os
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class SendSignal(Callback):
    """Sends this process a signal while a batch is trained; 2 is Ctrl-C, 15 is SIGTERM."""

    def __init__(self, batch: int, number: int, times: int = 1) -> None:
        self.batch, self.number, self.times = batch, number, times

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Send it at the batch of this number, counted from 1 over the epochs."""
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


class Crash(Callback):
    """Ends the process's training as a bug would: nothing is saved any more."""

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise at the batch of this number, counted from 1 over the epochs."""
        if trainer.fit_loop.total_batch_idx + 1 == self.batch:
            raise RuntimeError("a crash")


class StopTraining(Callback):
    """Sets `trainer.should_stop`, as an owner's callback may."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after the first epoch."""
        trainer.should_stop = True
