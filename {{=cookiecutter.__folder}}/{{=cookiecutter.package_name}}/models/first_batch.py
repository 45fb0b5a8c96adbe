"""The metrics of a model that does not declare them: it is trained and validated for one batch."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng

log = logging.getLogger(__name__)

# Of the trainer. All limits of the training stay as they are: a schedule may be computed from them.
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


class StopAfterBatch(Callback):
    """Ends the training after its first batch; Lightning validates before it stops."""

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Ask Lightning to stop."""
        trainer.should_stop = True


def metrics_of_first_batch(
    model: LightningModule,
    datamodule: LightningDataModule,
    make_trainer: Callable[..., Trainer],
    callbacks: Sequence[Callback] = (),
) -> set[str] | None:
    """The names that are logged in the first batch of a training and of a validation.

    Errors of the model's own steps are raised as they are.

    Args:
        model: is trained, and of no further use.
        datamodule: of the run.
        make_trainer: makes a trainer like the run's that writes nothing, with the given options.
        callbacks: of the run, which may log as well.

    Returns:
        The names; None if the batch does not fit into the memory, as it may with other options.
    """
    trainer = make_trainer(callbacks=[*callbacks, StopAfterBatch()], **ONE_VALIDATION)
    if trainer.limit_val_batches:
        trainer.limit_val_batches = 1
    try:
        with isolate_rng():
            trainer.fit(model, datamodule)
    except torch.OutOfMemoryError as error:
        log.warning("the first batch of the first point does not fit into the memory: %s", error)
        return None
    return set(trainer.callback_metrics)
