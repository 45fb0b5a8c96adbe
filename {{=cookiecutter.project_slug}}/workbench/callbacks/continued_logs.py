"""Curves without doubled points in the loggers of a resumed run."""

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from ..loggers.csv_file import CSVLogger


class ContinuedLogs(Callback):
    """Takes back what a killed run logged after the checkpoint that a resume goes on from.

    Those steps are trained again, and without this their points would stand twice in TensorBoard
    and in `metrics.csv`. A run that is resumed in another folder has nothing to take back.
    """

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the loggers where the run goes on."""
        step = trainer.global_step
        if step == 0:
            return
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.forget_after(step)
            elif isinstance(logger, TensorBoardLogger):
                from tensorboard.compat.proto.event_pb2 import Event, SessionLog

                # As SummaryWriter's purge_step, which is wanted before the step is known.
                writer = logger.experiment.file_writer
                restart = SessionLog(status=SessionLog.START)
                writer.add_event(Event(session_log=restart), step + 1)
