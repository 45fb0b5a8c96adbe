"""Rejects training batches that are too small for a model, before training."""

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.utilities.seed import isolate_rng
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, IterableDataset

from ..errors import UserError


@dataclass(frozen=True)
class TrainingBatches:
    """The batches of an epoch on one device.

    Attributes:
        samples: number of samples on the device.
        size: samples in a full batch.
        count: number of batches.
        smallest: samples in the smallest batch.
    """

    samples: int
    size: int
    count: int
    smallest: int

    @property
    def cause(self) -> str:
        """Why the smallest batch is as small as it is."""
        if self.smallest == self.size:
            return f"data.batch_size is {self.size}"
        if self.samples == self.smallest:
            return f"the training split has {self.samples} per device"
        return f"the last batch of the training split has {self.smallest}"


def check_batches(
    model: LightningModule, datamodule: LightningDataModule, trainer: Trainer
) -> None:
    """Build the training loader and check the sizes of its batches.

    Raises:
        UserError: no batch, or one that is too small for the model.
    """
    datamodule.trainer = trainer  # as Lightning does when training starts
    with isolate_rng():
        batches = training_batches(datamodule.train_dataloader(), trainer)
    if batches is None:
        return
    if batches.count == 0:
        raise UserError(
            f"The training loader has no batch: it drops batches of less than {batches.size} "
            f"samples and has {batches.samples}; lower data.batch_size."
        )
    name, least = type(model).__name__, getattr(model, "smallest_batch", 1)
    if batches.smallest < least:
        raise UserError(
            f"{name} compares the samples of a batch and needs at least {least}, but "
            f"{batches.cause}: change data.batch_size."
        )
    for split, count in getattr(datamodule, "num_samples", {}).items():
        if count < least:
            raise UserError(
                f"{name} compares the samples of a batch and needs at least {least}, but the "
                f"{split} split has {count}: use more data."
            )
    if batches.smallest == 1 and not can_normalize_one(model):
        raise UserError(
            "Batch normalization cannot train on a batch of one sample, but "
            f"{batches.cause}: change data.batch_size, or choose a network without it."
        )


def training_batches(loader: Any, trainer: Trainer) -> TrainingBatches | None:
    """The batches of a loader on one of the trainer's devices; None if they are unknown."""
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    size = loader.batch_size
    if size is None or not hasattr(loader.sampler, "__len__"):
        return None
    place = trainer.distributed_sampler_kwargs or {"num_replicas": 1}
    samples = math.ceil(len(loader.sampler) / place["num_replicas"])  # type: ignore[arg-type]
    full, rest = divmod(samples, size)
    count = full if loader.drop_last else math.ceil(samples / size)
    limit = trainer.limit_train_batches
    used = count if limit is None else limit if isinstance(limit, int) else int(count * limit)
    has_rest = rest > 0 and not loader.drop_last and used > full
    return TrainingBatches(samples, size, count, rest if has_rest else size)


def can_normalize_one(model: LightningModule) -> bool:
    """Whether the network's batch normalization works for a single sample.

    It does if a channel has several positions, as in an image.
    """
    shape, own = model.hparams.get("input_shape"), getattr(model, "net", model)
    if shape is None or not any(isinstance(module, _BatchNorm) for module in own.modules()):
        return True
    net: nn.Module = copy.deepcopy(own).train()  # a copy, because its statistics change
    try:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            net(torch.zeros(1, *shape))
    except Exception as error:
        # If the network needs other inputs, its first step will show whether it works.
        return "more than 1 value per channel" not in str(error)
    return True
