"""Validation and test samples shared among processes, so that each is measured once.

Lightning repeats samples until all processes have the same number. That is right for training, but
it changes every metric: 284 of 359 become 285 of 360.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from pytorch_lightning.utilities.model_helpers import is_overridden
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
)

log = logging.getLogger(__name__)


def share_evaluation(datamodule: LightningDataModule) -> None:
    """Let the validation and test loaders of a datamodule, your own ones too, repeat no sample."""
    for name in ("val_dataloader", "test_dataloader"):
        if is_overridden(name, datamodule):
            setattr(datamodule, name, partial(_shared, datamodule, getattr(datamodule, name)))


def _shared(datamodule: LightningDataModule, make: Callable[[], Any]) -> Any:
    """What `make` returns, limited to this process's share of the samples."""
    loaders, trainer = make(), datamodule.trainer
    # None on one device. A run that overfits validates the batches it trains on.
    place = None if trainer is None else trainer.distributed_sampler_kwargs
    if place is None or trainer.overfit_batches or place["num_replicas"] == 1:
        return loaders
    share = partial(_share_of_loader, processes=place["num_replicas"], rank=place["rank"])
    # Several loaders come as a list, or as a dictionary.
    if isinstance(loaders, Mapping):
        return {name: share(loader) for name, loader in loaders.items()}
    return list(map(share, loaders)) if isinstance(loaders, list | tuple) else share(loaders)


def _share_of_loader(loader: Any, processes: int, rank: int) -> Any:
    """A loader limited to one process's share of the samples."""
    if isinstance(getattr(loader, "sampler", None), DistributedSampler):
        return loader
    if not _can_be_shared(loader):
        log.warning(
            "the validation or test loader is not a DataLoader in a fixed order, so some samples "
            "may be measured twice on several devices: use evaluate.py for exact metrics"
        )
        return loader
    return _share(loader, processes, rank)


def _can_be_shared(loader: Any) -> bool:
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and type(loader.sampler) is SequentialSampler
        and type(loader.batch_sampler) is BatchSampler
        and not loader.drop_last
    )


def _share(loader: DataLoader[Any], processes: int, rank: int) -> DataLoader[Any]:
    assert loader.batch_size is not None
    options = {
        name: getattr(loader, name)
        for name in (
            "num_workers",
            "collate_fn",
            "pin_memory",
            "timeout",
            "worker_init_fn",
            "multiprocessing_context",
            "generator",
            "prefetch_factor",
            "persistent_workers",
        )
    }
    return type(loader)(
        loader.dataset,
        batch_size=equal_batches(loader.batch_size, len(loader.sampler), processes),  # type: ignore[arg-type]
        sampler=share_of(loader.dataset, processes, rank),
        **options,
    )


def share_of(dataset: Dataset[Any], processes: int, rank: int) -> DistributedSampler[Any]:
    """The sampler of one of several processes."""
    if len(dataset) < processes:  # type: ignore[arg-type]
        # A process without a batch would miss the exchange of the metrics, and the others would
        # wait for it. If all measure all samples, each counts the same as any other.
        return DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=False)
    return UnrepeatedDistributedSampler(dataset, num_replicas=processes, rank=rank, shuffle=False)


def equal_batches(batch_size: int, samples: int, processes: int) -> int:
    """The smallest batch size, from `batch_size` up, that gives all processes as many batches.

    A process with one batch more would wait for the others in every layer that they synchronise.
    """
    smaller_share, has_larger_shares = divmod(samples, processes)
    while has_larger_shares and smaller_share > 0 and smaller_share % batch_size == 0:
        batch_size += 1
    return batch_size
