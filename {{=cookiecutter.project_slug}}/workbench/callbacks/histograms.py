"""Parameters and gradients as histograms in TensorBoard."""

import logging

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from ..loggers.tensorboard import TensorBoardLogger

log = logging.getLogger(__name__)


class Histograms(Callback):
    """Writes a histogram of every parameter and its gradient at the last step of an epoch.

    Gradients are those the optimizer got, after clipping. TensorBoard alone draws histograms over
    time; without it this does nothing.

    Args:
        every_n_epochs: epochs between two histograms.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say so if there is no TensorBoard to draw in."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if not (loggers or trainer.fast_dev_run):
            log.warning("callbacks.histograms draws in TensorBoard alone: add logger=tensorboard")

    @rank_zero_only
    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Write them if this batch is the last; validation, which follows, drops the gradients."""
        if not trainer.is_last_batch or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                self._write(logger, pl_module, trainer.global_step)

    def _write(self, logger: TensorBoardLogger, pl_module: LightningModule, step: int) -> None:
        for name, parameter in pl_module.named_parameters():
            for kind, values in (("parameters", parameter.detach()), ("gradients", parameter.grad)):
                # A histogram has no place for NaN; NaNGuard and GradientNorms tell of those.
                if values is not None and torch.isfinite(values).all():
                    add = logger.experiment.add_histogram
                    logger.attempt(add, f"{kind}/{name}", values.float(), step)
