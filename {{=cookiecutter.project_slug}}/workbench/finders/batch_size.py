"""The largest batch that fits into memory."""

import logging
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.memory import garbage_collection_cuda, is_oom_error

from ..errors import UserError
from .base import Finder, Trial

log = logging.getLogger(__name__)

# The second step is the first with the optimizer's own memory.
STEPS = 2


class BatchSizeFinder(Finder):
    """Doubles `data.batch_size` while a training step fits into memory, up to a limit.

    A GPU is used best by large batches, a model is not always trained best by them: with a larger
    batch the learning rate has to be found anew. Main memory hardly ever ends, so on a CPU the
    limit decides. A size that does not fit is halved until it does.

    Args:
        max_size: the limit; no batch is larger than the training part either.
    """

    option = "data.batch_size"

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size

    def find(
        self,
        trainer: Trainer,
        model: LightningModule,
        datamodule: LightningDataModule,
        trial: Trial,
    ) -> int:
        """Find the size.

        Raises:
            UserError: several processes, or not even a batch of one fits.
        """
        if trainer.world_size > 1:
            raise UserError(
                "The batch-size finder works with one process, because another one that runs out "
                "of memory cannot tell: set data.batch_size yourself, or trainer.devices=1."
            )
        configured = batch_size_of(datamodule)
        samples = getattr(datamodule, "num_samples", {}).get("train", self.max_size)
        limit = min(self.max_size, samples)
        size = min(configured, limit)
        try:
            if _fits(size, model, datamodule, trial):
                while 2 * size <= limit and _fits(2 * size, model, datamodule, trial):
                    size *= 2
                return size
            while size > 1:
                size //= 2
                if _fits(size, model, datamodule, trial):
                    return size
        finally:
            set_batch_size(datamodule, configured)
        raise UserError(
            "Not even a batch of one sample fits into memory: take a smaller model or a larger GPU."
        )

    def saved(self, checkpoint: dict[str, Any]) -> int:
        """The batch size that the run of a checkpoint had."""
        size: int = checkpoint["datamodule_hyper_parameters"]["batch_size"]
        return size

    def use(self, value: int, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Let the run have the batch size."""
        set_batch_size(datamodule, value)


class WithoutSchedules(Callback):
    """Leaves out the learning-rate schedules, one of which may wait for a validation metric."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget them."""
        trainer.strategy.lr_scheduler_configs = []


def batch_size_of(datamodule: LightningDataModule) -> int:
    """The batch size among a datamodule's hyperparameters, or its attribute of that name.

    Raises:
        UserError: it has neither.
    """
    size = datamodule.hparams.get("batch_size", getattr(datamodule, "batch_size", None))
    if not isinstance(size, int):
        raise UserError(
            f"The batch-size finder sets batch_size, which {type(datamodule).__name__} does not "
            "have: save it with save_hyperparameters(), or leave out finders=batch_size."
        )
    return size


def set_batch_size(datamodule: LightningDataModule, size: int) -> None:
    """Let the next loaders of a datamodule have a batch size."""
    if "batch_size" in datamodule.hparams:
        datamodule.hparams["batch_size"] = size
    if hasattr(datamodule, "batch_size"):
        datamodule.batch_size = size


def _fits(size: int, model: LightningModule, datamodule: LightningDataModule, trial: Trial) -> bool:
    set_batch_size(datamodule, size)
    try:
        # Compiled code would be made anew for every size, and torch gives up after a few.
        with torch.compiler.set_stance("force_eager"):
            options: dict[str, Any] = {"max_epochs": -1, "max_steps": STEPS, "limit_val_batches": 0}
            trial(callbacks=[WithoutSchedules()], **options).fit(model, datamodule)
    except RuntimeError as error:
        if not is_oom_error(error):
            raise
        log.info("a batch of %d does not fit into memory", size)
        return False
    finally:
        model.zero_grad()
        garbage_collection_cuda()
    log.info("a batch of %d fits into memory", size)
    return True
