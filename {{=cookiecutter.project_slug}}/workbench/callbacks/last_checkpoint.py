"""The checkpoint to resume from."""

import time
from functools import partial
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn

from .after_module import after_module
from .steady_key import SteadyKey


class LastCheckpoint(SteadyKey, ModelCheckpoint):
    """Saves the point that training has reached: after every validation and every epoch.

    Args:
        every_n_minutes: save this often besides, for epochs that take hours.
        options: those of Lightning's ModelCheckpoint.
    """

    def __init__(self, every_n_minutes: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.every_n_minutes = every_n_minutes
        self._saved_at = time.monotonic()

    def save(self, trainer: Trainer) -> None:
        """Save the present state, between two batches."""
        if not trainer.fast_dev_run:
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring the time."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, or if training ends within the epoch."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        is_end = 0 <= trainer.max_steps <= trainer.global_step
        if trainer.is_last_batch or not (is_end or self._is_time(trainer)):
            return
        if not is_validation_due(trainer):
            after_module(pl_module, "on_train_batch_end", partial(self.save, trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after a validation within an epoch; the end of the epoch has its own."""
        if is_within_epoch(trainer):
            self.save(trainer)
        else:
            super().on_validation_end(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the path, unless it is another run's."""
        if state_dict["dirpath"] == self.dirpath:
            super().load_state_dict(state_dict)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._saved_at = time.monotonic()

    def _is_time(self, trainer: Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        is_time = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        return bool(trainer.strategy.broadcast(is_time))


def is_within_epoch(trainer: Trainer) -> bool:
    """Whether the validation that has just ended is one within an epoch of training."""
    is_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
    return is_training and not trainer.is_last_batch


def is_validation_due(trainer: Trainer) -> bool:
    """Whether Lightning validates after the present batch.

    A checkpoint from before would be resumed without this validation.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


def last_checkpoint_of(trainer: Trainer) -> str:
    """The newest checkpoint to resume from; empty where none was saved."""
    paths = [c.best_model_path for c in trainer.callbacks if isinstance(c, LastCheckpoint)]
    return next((path for path in reversed(paths) if path and Path(path).is_file()), "")
