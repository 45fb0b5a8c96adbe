"""The callback of a trial that reports its objective, and ends the training on request."""

from importlib import import_module
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint

from ..callbacks import Stopping
from ..callbacks.hooks import EpochEndCallback, is_within_epoch
from ..runs.ending import Cause, Ending, EndsTraining
from . import trial_channel
from .trial_channel import is_over, unit_of
from .types import Unit, Verdict


class TrialReporter(EndsTraining, EpochEndCallback):
    """Reports every epoch or validation, and ends the training through `trainer.should_stop`.

    Raising an exception instead, as in Optuna's examples, would leave loggers and checkpoints open
    and the other processes of a DDP trial waiting.

    A value is recorded before the checkpoint of the same step is saved, and sent afterwards: a
    trial that resumes from the checkpoint knows everything that was sent.

    Args:
        metric: the metric to report, such as `val/acc`.

    Attributes:
        reports: number and value of each report, including those before a resume.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self.reports: list[tuple[int, float]] = []
        self._is_sent = True
        # Whether the objective was measured within the current epoch, and whether a validation ran
        # at its end: a value from within the epoch is not reported again at its end.
        self._is_noted_within = False
        self._is_end_validated = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Send reports after all checkpoints are saved."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit":
            trainer.callbacks = [*trainer.callbacks, _after_checkpoints(self, trainer)]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Repeat the reports from before a resume, also if nothing is left to train."""
        verdict = Verdict.CONTINUE
        if trial_channel.current is not None and trainer.is_global_zero:
            verdict = trial_channel.current.repeat(self.reports)
        if trainer.strategy.broadcast(verdict) is Verdict.PAUSE:
            self.ending = self._paused(trainer)
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset the state of the epoch."""
        super().on_train_epoch_start(trainer, pl_module)
        self._is_noted_within = self._is_end_validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the objective of a validation within an epoch."""
        if not is_within_epoch(trainer):
            self._is_end_validated = True
        elif unit_of(trainer) is Unit.VALIDATION:
            value = self.measured_in_validation(trainer).get(self.metric)
            if value is not None:
                self._is_noted_within = True
                self._note(len(self.reports) + 1, float(value))

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the objective of an epoch, or of the validation at its end."""
        value = self.measured_in_epoch(trainer).get(self.metric)
        if value is None:
            return
        if unit_of(trainer) is Unit.EPOCH:
            self._note(trainer.current_epoch + 1, float(value))
        elif self._is_end_validated or not self._is_noted_within:
            self._note(len(self.reports) + 1, float(value))

    def send(self, trainer: Trainer, epochs: int) -> None:
        """Send the latest value, and end the training if the verdict says so.

        Args:
            trainer: of the trial.
            epochs: number of completed epochs.
        """
        if self._is_sent:
            return
        self._is_sent = True
        verdict, (step, value) = Verdict.CONTINUE, self.reports[-1]
        if trial_channel.current is not None and trainer.is_global_zero:
            is_last = is_over(trainer, epochs, trainer.global_step)
            verdict = trial_channel.current.report(step, value, is_last)
        verdict = trainer.strategy.broadcast(verdict)
        place = f"after {unit_of(trainer)} {step}"
        if verdict is Verdict.PRUNE:
            self.ending = Ending(Cause.PRUNED, f"the sweep pruned the trial {place}")
        elif verdict is Verdict.STOP:
            text = f"the sweep stopped the trial {place}, to be resumed"
            self.ending = Ending(Cause.STOPPED, text)
        elif verdict is Verdict.PAUSE:
            self.ending = self._paused(trainer)
        if self.ending is not None:
            self._end(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The reports, for the checkpoint."""
        return {"reports": self.reports, "is_noted_within": self._is_noted_within}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the reports."""
        self.reports = [(step, value) for step, value in state_dict["reports"]]
        self._is_noted_within = state_dict["is_noted_within"]

    def _note(self, step: int, value: float) -> None:
        self.reports.append((step, value))
        self._is_sent = False

    def _paused(self, trainer: Trainer) -> Ending:
        place = f"after {unit_of(trainer)} {self.reports[-1][0]}"
        text = f"the sweep paused the trial {place}, to be resumed if it is promoted"
        return Ending(Cause.PAUSED, text)

    def _end(self, trainer: Trainer) -> None:
        """End the training; within an epoch, so that it can be resumed from there."""
        stopping = next((c for c in trainer.callbacks if isinstance(c, Stopping)), None)
        if trainer.validating and stopping is not None and self.ending is not None:
            stopping.ask(self.ending)
            # Its own call came earlier; without this one, another batch would be trained.
            stopping.on_validation_end(trainer, trainer.lightning_module)
        else:
            trainer.should_stop = True


class _AfterCheckpoints(Checkpoint):
    """Lightning calls `Checkpoint` callbacks last, and this one is the last of them."""

    def __init__(self, reporter: TrialReporter) -> None:
        self.reporter = reporter

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the report of a validation within an epoch."""
        if is_within_epoch(trainer):
            self.reporter.send(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Send the report of an epoch."""
        self.reporter.send(trainer, trainer.current_epoch + 1)


def _after_checkpoints(reporter: TrialReporter, trainer: Trainer) -> _AfterCheckpoints:
    """The callback for a trainer of either package; the one knows no `Checkpoint` of the other."""
    kinds: list[type] = [_AfterCheckpoints]
    if any(kind.__module__.startswith("lightning.pytorch") for kind in type(trainer).__mro__):
        kinds.append(import_module("lightning.pytorch.callbacks").Checkpoint)
    return type("AfterCheckpoints", tuple(kinds), {})(reporter)
