"""Finds the metrics of a model that does not declare them by training it for one batch."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ProgressBar
from pytorch_lightning.loggers.logger import DummyLogger
from pytorch_lightning.utilities.seed import isolate_rng

from ..runs.ending import EndsTraining
from ..runs.logs import without_lightnings_lines

log = logging.getLogger(__name__)

# Options of the trainer. Limits of the training are kept: a schedule may depend on them.
ONE_VALIDATION = {
    "check_val_every_n_epoch": 1,
    "val_check_interval": 1.0,
    "min_epochs": None,
    "min_steps": None,
    "fast_dev_run": False,
    "devices": 1,
    "num_nodes": 1,
    "strategy": "auto",
}
# Callbacks that end, save or display a training.
NOT_TRIED = (Checkpoint, EarlyStopping, EndsTraining, ProgressBar)

MakeTrainer = Callable[..., Trainer]


class StopAfterBatch(Callback):
    """Stops the training after its first batch; Lightning validates before it stops."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Ask Lightning to stop."""
        trainer.should_stop = True


def find_metrics(
    model: LightningModule,
    datamodule: LightningDataModule,
    make_trainer: MakeTrainer,
    callbacks: Sequence[Callback],
    wanted: Sequence[str],
) -> list[str] | None:
    """The names that are logged in the first batch of training and validation.

    Errors in the model's steps are raised unchanged.

    Args:
        model: is trained and must not be used afterwards.
        datamodule: the run's.
        make_trainer: makes a trainer like the run's that writes nothing, with the given options.
        callbacks: the run's, which may log as well; they are tried if a wanted metric is missing.
        wanted: the metrics that are needed.

    Returns:
        The names; None if they are unknown, because nothing is logged in the first batch, the batch
        does not fit into memory (it may with other options), or a callback cannot be tried.
    """
    try:
        names = _logged(model, datamodule, make_trainer)
    except torch.OutOfMemoryError as error:
        log.warning("the first batch of the first configuration does not fit in memory: %s", error)
        return None
    if not names.issuperset(wanted):
        others = [callback for callback in callbacks if not isinstance(callback, NOT_TRIED)]
        try:
            names |= _logged(model, datamodule, make_trainer, others)
        except Exception:
            # They may need a complete training.
            log.info("the callbacks could not be tried", exc_info=True)
            return None
    return sorted(names) or None


def _logged(
    model: LightningModule,
    datamodule: LightningDataModule,
    make_trainer: MakeTrainer,
    callbacks: Sequence[Callback] = (),
) -> set[str]:
    every = [*callbacks, StopAfterBatch()]
    trainer = make_trainer(callbacks=every, **ONE_VALIDATION)
    trainer.loggers = [DummyLogger()]
    if trainer.limit_val_batches:
        trainer.limit_val_batches = 1
    with without_lightnings_lines(), isolate_rng():
        trainer.fit(model, datamodule)
    return set(trainer.callback_metrics)
