"""What ends a training before its last epoch: a signal, early stopping or a time limit."""

import logging
import math
import signal
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer, callbacks
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason
from pytorch_lightning.trainer.connectors.signal_connector import _HandlersCompose

from ..runs.ending import INTERRUPTED, TERMINATED, Cause, Ending, EndsTraining
from ..runs.logs import log_in_signal
from ..shell import option
from .checkpoints import LastCheckpoint, last_checkpoint_of
from .hooks import FreshMetrics, after_module, is_validation_due, is_within_epoch
from .resources import EpochClock, clock_time, epochs_left

log = logging.getLogger(__name__)

# Epochs take longer when the machine is shared.
MARGIN = 1.2
# Seconds for everything but training: start, first access to the data, test.
START_AND_TEST = 120


class Stopping(EndsTraining, Callback):
    """Saves and ends the training at the first Ctrl-C, at SIGTERM, or when a callback asks for it.

    A validation that is due after the batch, or in progress, is completed first. The second Ctrl-C
    stops immediately.

    It runs after all callbacks except the checkpoints, so that what they do after a batch is saved.
    """

    def __init__(self) -> None:
        self.is_leaving = False
        self._is_agreed = False
        self._handler: Any = None
        self._requeue: Callable[[], None] | None = None
        self._is_requeued_later = False

    def ask(self, ending: Ending) -> None:
        """End the training after the current batch; the first request is the reason given."""
        self.ending = self.ending or ending

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Also come first at the end of an epoch."""
        if stage == "fit":
            trainer.callbacks = [_NoEpochEnd(self), *trainer.callbacks]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C if it would end the process."""
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handler = signal.signal(signal.SIGINT, self._interrupted)
        requeue = signal.getsignal(signal.SIGUSR1)
        if is_main and isinstance(requeue, _HandlersCompose):
            self._is_requeued_later = True
            signal.signal(signal.SIGUSR1, partial(self._requeue_later, trainer, requeue))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Leave; the previous batch or validation was saved at its end."""
        if self._is_agreed:
            self._leave()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save, unless a validation or the end of the epoch comes next, which saves too."""
        if self._is_requeued_later:
            save = partial(self._save_and_requeue, trainer)
            after_module(pl_module, "on_train_batch_end", save)
        self._agree(trainer)
        if self._is_agreed and not (trainer.is_last_batch or is_validation_due(trainer)):
            after_module(pl_module, "on_train_batch_end", partial(_save, trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Handle what was requested during the validation."""
        if is_within_epoch(trainer):
            self._agree(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start no further epoch."""
        self._agree(trainer)
        trainer.should_stop = trainer.should_stop or self._is_agreed

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the handler of Ctrl-C."""
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Restore the handler of Ctrl-C."""
        self._release()

    def _agree(self, trainer: Trainer) -> None:
        """Make all processes end together: a signal may reach only one of them."""
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
        """SLURM's warning: let Lightning save and requeue, but not in the middle of a batch."""
        if trainer.training:
            self._requeue = partial(requeue, signum, frame)
        else:
            # A validation may take longer than the remaining time.
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
        # This is how Lightning's own loops end.
        raise StopIteration

    def _interrupted(self, signum: int, frame: FrameType | None) -> None:
        self._release()
        text = "Ctrl-C: saving and ending the training; press it again to stop immediately"
        log_in_signal(log, logging.WARNING, text)
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
    """Skips the work at the end of an epoch for one that is left early."""

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the loop over the epochs."""
        if self.stopping.is_leaving:
            raise StopIteration


class EarlyStopping(EndsTraining, FreshMetrics, callbacks.EarlyStopping):
    """Lightning's EarlyStopping, which counts each value once and reports why it stopped.

    `patience` counts measurements: validations for a validation metric, wherever they take place,
    and epochs for a training metric.

    Attributes:
        best_epoch: the epoch of the best value, from 1.
    """

    best_epoch = 0
    _is_validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check a metric that this validation has measured."""
        if not self._should_skip_check(trainer) and self.monitor in self.measured_in_validation(
            trainer
        ):
            self._is_validated = True
            self._run_early_stopping_check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check a training metric."""
        if not self._is_validated and self.monitor in self.measured_in_epoch(trainer):
            self._run_early_stopping_check(trainer)

    def _run_early_stopping_check(self, trainer: Trainer) -> None:
        best_score, was_stopping = self.best_score, trainer.should_stop
        super()._run_early_stopping_check(trainer)
        if self.best_score is not best_score:
            self.best_epoch = trainer.current_epoch + 1
        if trainer.should_stop and not was_stopping:
            self.ending = Ending(Cause.EARLY_STOPPING, self._reason())

    def _reason(self) -> str:
        if self.stopping_reason is not EarlyStoppingReason.PATIENCE_EXHAUSTED:
            return str(self.stopping_reason_message).removesuffix(" Signaling Trainer to stop.")
        unit = "validations" if self._is_validated else "epochs"
        best = f"its best value is {float(self.best_score):.6g}, in epoch {self.best_epoch}"
        return (
            f"{self.monitor} has not improved in {self.wait_count} {unit} "
            f"(patience={self.patience}); {best if self.best_epoch else 'it was never finite'}"
        )

    def state_dict(self) -> dict[str, Any]:
        """The counters, for the checkpoint."""
        return super().state_dict() | {
            "best_epoch": self.best_epoch,
            "is_validated": self._is_validated,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters, with the patience of this run."""
        super().load_state_dict(state_dict | {"patience": self.patience})
        self.best_epoch = state_dict["best_epoch"]
        self._is_validated = state_dict["is_validated"]


class TimeLimit(EndsTraining, callbacks.Timer):
    """Lightning's Timer, which gives a resumed run its full time and stops between two epochs.

    Lightning adds the time of earlier runs, so that a job resumed with the same limit would stop
    immediately, and it counts an epoch interrupted in the middle as complete. This one stops after
    the last epoch that leaves time for another one; only when an epoch takes longer than those
    before it does it stop within the epoch, where the next run resumes. Then it tells which time to
    request from the cluster for the remaining epochs.

    Args:
        duration: days:hours:minutes:seconds of training, for example "00:08:00:00"; None for no
            limit.
    """

    def __init__(self, duration: str | dict[str, int] | None = None) -> None:
        super().__init__(duration, interval="step", verbose=False)
        self._limit = f"the time limit of {duration}"
        self._clock = EpochClock()
        self._left: float | None = None
        self._batches = 0

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the time of earlier runs."""

    def on_fit_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Never stop here: the time begins now."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._clock.start()
        self._batches = 0

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop within an epoch when the time is up."""
        self._batches += 1
        remaining = self.time_remaining()
        if remaining is None or self.ending or not trainer.strategy.broadcast(remaining <= 0):
            return
        self.ending = Ending(Cause.TIME_LIMIT, f"{self._limit} is reached")
        self._measure(trainer, trained=(trainer.fit_loop.batch_idx + 1))
        stopping = next((c for c in trainer.callbacks if isinstance(c, Stopping)), None)
        if stopping is None:
            trainer.should_stop = True
        else:
            stopping.ask(self.ending)

    def on_train_epoch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop if another epoch would take too long."""
        self._measure(trainer, trained=trainer.num_training_batches)
        remaining = self.time_remaining()
        if remaining is None or self._left == 0:
            return
        fits = remaining >= MARGIN * max(self._clock.seconds)
        if trainer.strategy.broadcast(not fits):
            self.ending = self.ending or Ending(
                Cause.TIME_LIMIT, f"{self._limit} leaves no time for another epoch"
            )
            trainer.should_stop = True

    def _measure(self, trainer: Trainer, trained: float) -> None:
        """Measure an epoch, which may have been resumed or interrupted, and what remains."""
        planned = trainer.num_training_batches
        is_known = math.isfinite(planned) and self._batches > 0
        self._clock.stop(self._batches / planned if is_known else 1.0)
        left = epochs_left(trainer)
        self._left = None if left is None else left + (1 - trained / planned if is_known else 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log how to resume."""
        super().on_train_end(trainer, pl_module)
        if not self.ending or self._left == 0:
            return
        log.info("stopped by the time limit after %d epochs", trainer.current_epoch)
        if checkpoint := last_checkpoint_of(trainer):
            log.info("resume with %s", option("ckpt_path", checkpoint))
        if self._left is not None:
            needed = self._left * self._clock.per_epoch
            walltime = clock_time(60 * math.ceil((MARGIN * needed + START_AND_TEST) / 60))
            log.info(
                "the remaining %.3g epochs take about %s: request WALLTIME %s",
                self._left,
                clock_time(needed),
                walltime,
            )
