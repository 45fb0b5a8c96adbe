"""The largest batch that fits into memory."""

import logging
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.memory import garbage_collection_cuda, is_oom_error

from ..errors import UserError
from .base import Finder, Trial

log = logging.getLogger(__name__)

# From the second step on the optimizer's state occupies memory too.
STEPS = 2


class BatchSizeFinder(Finder):
    """Doubles `data.batch_size` while a training step fits into memory, up to a limit.

    Large batches use a GPU best, but do not always train a model best: a larger batch needs another
    learning rate. On a CPU memory is rarely exhausted, so the limit decides. A size that does not
    fit is halved until it does.

    Args:
        max_size: the limit; the size of the training split is another one.
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
            UserError: several processes, or not even one sample fits.
        """
        if trainer.world_size > 1:
            raise UserError(
                "The batch-size finder needs a single process, because another one that runs out "
                "of memory cannot report it: set data.batch_size yourself, or trainer.devices=1."
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
            "Not even a batch of one sample fits into memory: use a smaller model or a larger GPU."
        )

    def saved(self, checkpoint: dict[str, Any]) -> int:
        """The batch size that the run of a checkpoint used."""
        size: int = checkpoint["datamodule_hyper_parameters"]["batch_size"]
        return size

    def use(self, value: int, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Make the run use the batch size."""
        set_batch_size(datamodule, value)


class WithoutSchedules(Callback):
    """Removes the learning-rate schedules, one of which may need a validation metric."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove them."""
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
            "have: save it with save_hyperparameters(), or omit finders=batch_size."
        )
    return size


def set_batch_size(datamodule: LightningDataModule, size: int) -> None:
    """Set the batch size of the datamodule's next loaders."""
    if "batch_size" in datamodule.hparams:
        datamodule.hparams["batch_size"] = size
    if hasattr(datamodule, "batch_size"):
        datamodule.batch_size = size


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory is exhausted; NVIDIA's libraries say it their own way."""
    return is_oom_error(error) or "_STATUS_ALLOC_FAILED" in str(error)


def _fits(size: int, model: LightningModule, datamodule: LightningDataModule, trial: Trial) -> bool:
    set_batch_size(datamodule, size)
    try:
        # Otherwise every size would be compiled, and torch stops compiling after a few.
        with torch.compiler.set_stance("force_eager"):
            options: dict[str, Any] = {"max_epochs": -1, "max_steps": STEPS, "limit_val_batches": 0}
            trial(callbacks=[WithoutSchedules()], **options).fit(model, datamodule)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        log.info("a batch of %d does not fit into memory", size)
        return False
    finally:
        model.zero_grad()
        garbage_collection_cuda()
    log.info("a batch of %d fits into memory", size)
    return True
