"""The best checkpoint, and the last one, from which a run is resumed."""

import logging
import shutil
import time
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any
from weakref import proxy

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from ..runs.checkpoint_file import CheckpointFile
from .averaging import EMA, validated_weights
from .hooks import FreshMetrics, after_module, is_validation_due, is_within_epoch

log = logging.getLogger(__name__)


class QuickCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint without its work in steps and epochs that save nothing."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save after some steps or some time, if that is configured."""
        if self._every_n_train_steps or self._train_time_interval:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def _monitor_candidates(self, trainer: Trainer) -> dict[str, Tensor]:
        """The metrics for the file's name and the best score; Lightning copies all of them."""
        metrics = dict(trainer.callback_metrics)
        for name, number in (("epoch", trainer.current_epoch), ("step", trainer.global_step)):
            value = metrics.get(name)
            metrics[name] = value.int() if isinstance(value, Tensor) else torch.tensor(number)
        if self.monitor in metrics:
            # The best score is kept, and a metric may go on changing the tensor that it returned.
            metrics[self.monitor] = deepcopy(metrics[self.monitor])
        return metrics


class BestCheckpoint(FreshMetrics, QuickCheckpoint):
    """Lightning's ModelCheckpoint, which keeps the best score when a run is resumed elsewhere.

    Lightning forgets the best score when the directory changes, so that the first epoch after the
    resume would count as the best, however bad it is. This one saves the weights that were
    validated, which with EMA are not the ones in training, also after a validation within an epoch.
    """

    _resumed_from: Path | None = None
    _validated_step: int | None = None
    _saved_at_place: tuple[Any, ...] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if they are the best; those of an epoch's end with the epoch."""
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self.monitor not in self.measured_in_validation(trainer):
            return
        self._validated_step = trainer.global_step
        is_saved_later = trainer.is_last_batch and self._should_save_on_train_epoch_end(trainer)
        if not (is_saved_later or trainer.fast_dev_run):
            with validated_weights(trainer, pl_module):
                self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the weights if their epoch is the best."""
        is_old = self._validated_step not in (None, trainer.global_step)
        if is_old or self.monitor not in self.measured_in_epoch(trainer):
            return
        with validated_weights(trainer, pl_module):
            super().on_train_epoch_end(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember which run is resumed."""
        self._resumed_from = Path(trainer.ckpt_path).parent if trainer.ckpt_path else None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from the best score of the resumed run."""
        super().load_state_dict(self._moved_here(state_dict))

    def has_saved(self, trainer: Trainer) -> bool:
        """Whether the file contains the complete state of the training in this hook."""
        is_averaged = any(isinstance(callback, EMA) for callback in trainer.callbacks)
        is_all = not (is_averaged or self.save_weights_only)
        return is_all and self._saved_at_place == _place(trainer)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._saved_at_place = _place(trainer)

    def _moved_here(self, state: dict[str, Any]) -> dict[str, Any]:
        unchanged = {name: getattr(self, name) for name in state}
        if not (state["best_model_path"] and self.dirpath and self._resumed_from):
            return unchanged
        source = self._resumed_from / Path(state["best_model_path"]).name
        target = Path(self.dirpath) / source.name
        if not source.is_file():
            log.warning(
                "%s does not exist: the best checkpoint of this run is the best since the resume",
                source,
            )
            return unchanged
        if source.resolve() != target.resolve():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return state | {
            "dirpath": self.dirpath,
            "best_model_path": str(target),
            "kth_best_model_path": str(target),
            "best_k_models": {str(target): state["best_model_score"]},
        }


def _place(trainer: Trainer) -> tuple[Any, ...]:
    """In which hook the training is, in which epoch, and after how many batches and steps."""
    hook = trainer.lightning_module._current_fx_name
    return hook, trainer.current_epoch, trainer.fit_loop.total_batch_idx, trainer.global_step


class LastCheckpoint(QuickCheckpoint):
    """Saves the current state of the training after every validation and every epoch.

    If the best checkpoint has just been saved, this is a copy of it.

    Args:
        every_n_minutes: also save this often, for epochs that take hours.
        options: those of Lightning's ModelCheckpoint.
    """

    def __init__(self, every_n_minutes: float | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.every_n_minutes = every_n_minutes
        self._saved_at = time.monotonic()

    def save(self, trainer: Trainer) -> None:
        """Save the current state, between two batches."""
        if not trainer.fast_dev_run:
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, or if the training ends within the epoch."""
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
        """Restore the path, unless it is another run's."""
        if state_dict["dirpath"] == self.dirpath:
            super().load_state_dict(state_dict)

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        source = self._equal_checkpoint(trainer, filepath)
        if source is None:
            super()._save_checkpoint(trainer, filepath)
        else:
            self._copy_checkpoint(trainer, source, filepath)
        self._saved_at = time.monotonic()

    def _equal_checkpoint(self, trainer: Trainer, filepath: str) -> Path | None:
        """The best checkpoint, if it contains what this one would."""
        before = trainer.callbacks[trainer.callbacks.index(self) - 1]
        is_alike = (
            # The file must contain the latest state of every checkpoint, and the path of this one.
            isinstance(before, BestCheckpoint)
            and self._last_checkpoint_saved == filepath
            and not self.save_weights_only
            # Between the two, after a batch, the model's own hook may change the model.
            and trainer.lightning_module._current_fx_name != "on_train_batch_end"
            and isinstance(trainer.strategy.checkpoint_io, CheckpointFile)
            and before.has_saved(trainer)
        )
        if not is_alike:
            return None
        path = Path(before._last_checkpoint_saved)
        # A sharded checkpoint is a folder. All processes decide alike.
        return path if trainer.strategy.broadcast(path.is_file()) else None

    def _copy_checkpoint(self, trainer: Trainer, source: Path, filepath: str) -> None:
        if trainer.is_global_zero:
            trainer.strategy.checkpoint_io.copy_checkpoint(source, Path(filepath))
        trainer.strategy.barrier()
        self._last_global_step_saved = trainer.global_step
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(proxy(self))

    def _is_time(self, trainer: Trainer) -> bool:
        if self.every_n_minutes is None:
            return False
        is_time = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        return bool(trainer.strategy.broadcast(is_time))


def last_checkpoint_of(trainer: Trainer) -> str:
    """The newest checkpoint to resume from; empty if none was saved."""
    paths = [c.best_model_path for c in trainer.callbacks if isinstance(c, LastCheckpoint)]
    return next((path for path in reversed(paths) if path and Path(path).is_file()), "")
