"""Stop in time, so that a cluster does not stop the run in the middle."""

import logging
import math
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Timer

from ..runs.ending import Cause, Ending, EndsTraining
from ..shell import option
from .last_checkpoint import last_checkpoint_of
from .stopping import Stopping
from .timing import EpochClock, clock_time, epochs_left

log = logging.getLogger(__name__)

# Epochs take longer when others use the machine too.
MARGIN = 1.2
# Seconds for what is no training: the start, the first look at the data and the test.
START_AND_TEST = 120


class TimeLimit(EndsTraining, Timer):
    """Lightning's Timer, which gives a resumed run its whole time and stops between two epochs.

    Lightning adds the time of the runs before, so that a job that goes on with the same limit
    would stop at once. And it counts an epoch that it stops in the middle as a whole one. This one
    stops after the last epoch that leaves time for another, and within an epoch, from where the
    next run resumes, only when an epoch takes longer than those before. Then it says what to ask
    the cluster for to train the epochs that are left.

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
        """Forget the time of the runs before."""

    def on_fit_start(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Nothing is over yet: the time begins now."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start measuring the epoch."""
        self._clock.start()
        self._batches = 0

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop within an epoch when the time is over."""
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
        """Stop when another epoch would not fit."""
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
        """Take the time of an epoch, which may have begun or ended within, and what is left."""
        planned = trainer.num_training_batches
        is_known = math.isfinite(planned) and self._batches > 0
        self._clock.stop(self._batches / planned if is_known else 1.0)
        left = epochs_left(trainer)
        self._left = None if left is None else left + (1 - trained / planned if is_known else 0)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how to resume."""
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
                "the other %.3g epochs take about %s: ask for WALLTIME %s",
                self._left,
                clock_time(needed),
                walltime,
            )
