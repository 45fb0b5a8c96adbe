"""Inside a trial: tell the sweep the value of every epoch, and stop when it says so."""

from pytorch_lightning import LightningModule, Trainer

from ..callbacks import MetricHistory
from ..callbacks.epoch_end import EpochEndCallback
from ..runs.ending import Cause, Ending, EndsTraining
from . import link
from .records import Answer


class TrialReporter(EndsTraining, EpochEndCallback):
    """Reports every epoch that was validated, and ends the training in Lightning's own way.

    Raising an exception instead, as Optuna's examples do, would leave loggers and checkpoints
    open and the other processes of a DDP trial waiting.

    Args:
        metric: the metric to report, for example `val/acc`.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the epochs before a resume again: they belong to this trial too."""
        history = next((c for c in trainer.callbacks if isinstance(c, MetricHistory)), None)
        for row in history.rows if history else []:
            if link.current is not None and self.metric in row:
                link.current.report(int(row["epoch"]) + 1, row[self.metric])

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and end if the sweep says so."""
        metrics = self.epoch_metrics(trainer)
        if self.metric not in metrics:
            return
        answer, epochs = Answer.CONTINUE, trainer.current_epoch + 1
        if link.current is not None and trainer.is_global_zero:
            is_last = epochs == trainer.max_epochs
            answer = link.current.report(epochs, metrics[self.metric], is_last)
        answer = trainer.strategy.broadcast(answer)
        if answer is Answer.PRUNE:
            self.ending = Ending(Cause.PRUNED, f"the sweep pruned the trial after epoch {epochs}")
        elif answer is Answer.STOP:
            text = f"the sweep stopped the trial after epoch {epochs}, to be resumed"
            self.ending = Ending(Cause.STOPPED, text)
        if self.ending:
            trainer.should_stop = True
