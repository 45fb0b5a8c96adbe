"""What a run adds to any LightningDataModule, and the one it uses if the model has its own loaders.

Each stage is set up once, with the same random numbers in every command. Validation and test
samples are distributed among processes without repetition, so that each is measured once: Lightning
repeats samples until all processes have the same number. That is right for training, but it changes
every metric: 284 of 359 become 285 of 360.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    SequentialSampler,
)

from ..seeding import seed_generators

log = logging.getLogger(__name__)

LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader")
# What a loader keeps when it gets another sampler and batch size.
KEPT = (
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


class ModelData(LightningDataModule):
    """The datamodule of a run with `data=null`: the model defines `train_dataloader` itself."""

    def take_from(self, model: LightningModule) -> None:
        """Offer the loaders that the model defines."""
        for name in LOADERS:
            if is_overridden(name, model):
                setattr(self, name, partial(getattr(model, name)))


def set_up_once(datamodule: LightningDataModule, seed: int | None) -> None:
    """Let `prepare_data` and `setup` of a datamodule run once for each stage, under a seed.

    The datamodule is set up before the model is built, and again by Lightning. A random split would
    then be drawn twice, and differently in `train.py` and `evaluate.py`.

    Args:
        datamodule: any; its methods are replaced.
        seed: the run's; None leaves the random numbers as they are.
    """
    done: set[str] = set()
    # Through Any: the linter takes `setattr` with a constant name for a mistake.
    replaced: Any = datamodule
    teardown = datamodule.teardown if is_overridden("teardown", datamodule) else None
    replaced.prepare_data = partial(_prepare, done, datamodule.prepare_data, seed)
    replaced.setup = partial(_set_up, done, datamodule.setup, seed)
    if teardown is not None:
        replaced.teardown = partial(_tear_down, done, teardown)


def _prepare(done: set[str], prepare_data: Any, seed: int | None) -> None:
    if "prepare_data" not in done:
        with _seeded(seed):
            prepare_data()
        done.add("prepare_data")


def _set_up(done: set[str], setup: Any, seed: int | None, stage: str) -> None:
    if stage not in done:
        with _seeded(seed):
            setup(stage=stage)
        done.add(stage)


def _tear_down(done: set[str], teardown: Any, stage: str) -> None:
    """What is torn down has to be set up again."""
    teardown(stage=stage)
    done.discard(stage)


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """Seed all random number generators in this context and restore them afterwards."""
    with isolate_rng():
        if seed is not None:
            seed_generators(seed)
        yield


def share_evaluation(datamodule: LightningDataModule) -> None:
    """Let the validation and test loaders of a datamodule, including your own, repeat no sample."""
    for name in ("val_dataloader", "test_dataloader"):
        if is_overridden(name, datamodule):
            setattr(datamodule, name, partial(_shared, datamodule, getattr(datamodule, name)))


def _shared(datamodule: LightningDataModule, make: Callable[[], Any]) -> Any:
    """What `make` returns, limited to the samples of this process."""
    loaders, trainer = make(), datamodule.trainer
    # None on one device. A run that overfits validates the batches it trains on.
    place = None if trainer is None else trainer.distributed_sampler_kwargs
    if place is None or trainer.overfit_batches or place["num_replicas"] == 1:
        return loaders
    share = partial(_share_loader, processes=place["num_replicas"], rank=place["rank"])
    # Several loaders come as a list, or as a dictionary.
    if isinstance(loaders, Mapping):
        return {name: share(loader) for name, loader in loaders.items()}
    return list(map(share, loaders)) if isinstance(loaders, list | tuple) else share(loaders)


def _share_loader(loader: Any, processes: int, rank: int) -> Any:
    """A loader limited to the samples of one process."""
    if isinstance(getattr(loader, "sampler", None), DistributedSampler):
        return loader
    if not _can_be_shared(loader):
        log.warning(
            "the validation or test loader is not a DataLoader in a fixed order, so some samples "
            "may be measured twice on several devices: use evaluate.py for exact metrics"
        )
        return loader
    return type(loader)(
        loader.dataset,
        batch_size=equal_batches(loader.batch_size, len(loader.sampler), processes),
        sampler=share_of(loader.dataset, processes, rank),
        **{name: getattr(loader, name) for name in KEPT},
    )


def _can_be_shared(loader: Any) -> bool:
    return (
        isinstance(loader, DataLoader)
        and not isinstance(loader.dataset, IterableDataset)
        and type(loader.sampler) is SequentialSampler
        and type(loader.batch_sampler) is BatchSampler
        and not loader.drop_last
    )


def share_of(dataset: Dataset[Any], processes: int, rank: int) -> DistributedSampler[Any]:
    """The sampler of one of several processes."""
    if len(dataset) < processes:  # type: ignore[arg-type]
        # A process without a batch would miss the exchange of the metrics, and the others would
        # wait for it. If all measure all samples, each sample counts the same.
        return DistributedSampler(dataset, num_replicas=1, rank=0, shuffle=False)
    return UnrepeatedDistributedSampler(dataset, num_replicas=processes, rank=rank, shuffle=False)


def equal_batches(batch_size: int, samples: int, processes: int) -> int:
    """The smallest size from `batch_size` that gives all processes the same number of batches.

    A process with one batch more would wait for the others in every layer that they synchronise.
    """
    smaller, remainder = divmod(samples, processes)
    while remainder and smaller > 0 and smaller % batch_size == 0:
        batch_size += 1
    return batch_size
