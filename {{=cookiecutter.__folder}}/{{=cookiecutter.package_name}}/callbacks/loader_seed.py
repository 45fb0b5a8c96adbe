"""What the training loaders draw, seeded for each epoch, and their position within one.

A DataLoader draws the seed of its workers, and its sampler draws the order. By default both draw
from torch's global generator, at times that differ between a run that is resumed and one that is
not: Lightning makes the first iterator before the first epoch starts.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from lightning_fabric.utilities.types import _Stateful
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

# For each loader and sampler the seed of the generator that its owner gave it, None without one.
_given: WeakKeyDictionary[Any, int | None] = WeakKeyDictionary()


def training_loaders(trainer: Trainer) -> list[Any]:
    """The training loaders, one by one."""
    return list(CombinedLoader(trainer.train_dataloader).flattened)


def seed_loaders(trainer: Trainer, entropy: list[int], is_first: bool) -> None:
    """Seed what the training loaders draw in the epoch that begins.

    A generator that somebody gave to a loader or sampler keeps the seed that it was given: the
    order is then the same for all seeds of the run, and differs from epoch to epoch.

    Args:
        trainer: at the start of an epoch.
        entropy: the seed of the run, the epoch and the process.
        is_first: whether this is the first epoch that the trainer begins.
    """
    loaders = [loader for loader in training_loaders(trainer) if isinstance(loader, DataLoader)]
    for number, loader in enumerate(loaders):
        for part, owner in enumerate(_drawing_parts(loader)):
            generator = owner.generator
            if owner not in _given:
                _given[owner] = None if generator is None else generator.initial_seed()
            given = _given[owner]
            start = entropy if given is None else [given, *entropy[1:]]
            owner.generator = _generator([*start, number, part])
        if loader.persistent_workers and not getattr(loader.dataset, "is_deterministic", False):
            # The workers would continue with the random numbers of the epochs before. A dataset
            # that draws none says so by `is_deterministic = True` and keeps its workers.
            loader._iterator = None
    if is_first and any(_starts_early(loader) for loader in loaders):
        _restart(trainer)


def loader_states(trainer: Trainer) -> list[Any]:
    """What is needed to continue the epoch in progress: seeds, or the loader's own state."""
    return [
        loader.state_dict() if isinstance(loader, _Stateful) else _seeds(loader)
        for loader in training_loaders(trainer)
    ]


def continue_loaders(trainer: Trainer, states: list[Any], batches: int) -> bool:
    """Continue the epoch in progress after some batches; False if a loader cannot.

    Args:
        trainer: before the first batch that is left.
        states: what `loader_states` returned.
        batches: number of batches that were trained.
    """
    loaders = training_loaders(trainer)
    if len(states) != len(loaders) or None in states:
        return False
    for loader, state in zip(loaders, states, strict=True):
        _set_sampler_epoch(loader, trainer.current_epoch)
        if isinstance(loader, _Stateful):
            loader.load_state_dict(state)
            continue
        for owner, seed in zip(_drawing_parts(loader), state, strict=True):
            owner.generator = torch.Generator().manual_seed(seed)
        loader._iterator = None
    _restart(trainer)
    if not any(isinstance(loader, _Stateful) for loader in loaders):
        _skip(trainer, batches)
    return True


def _seeds(loader: Any) -> list[int] | None:
    """The seeds of a loader's generators in this epoch; None where they are not known."""
    if not isinstance(loader, DataLoader):
        return None
    generators = [owner.generator for owner in _drawing_parts(loader)]
    if None in generators:
        return None
    return [generator.initial_seed() for generator in generators]


def _drawing_parts(loader: DataLoader[Any]) -> Iterator[Any]:
    """The loader and its samplers, as far as they take a generator."""
    nested = getattr(loader.batch_sampler, "sampler", None)
    known = []
    for owner in (loader, loader.sampler, loader.batch_sampler, nested):
        if hasattr(owner, "generator") and not any(owner is other for other in known):
            known.append(owner)
            yield owner


def _generator(entropy: list[int]) -> torch.Generator:
    # A seed that somebody gave may be negative.
    words = [abs(number) for number in entropy]
    (seed,) = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(seed) >> 1)


def _starts_early(loader: DataLoader[Any]) -> bool:
    """Whether a loader has drawn random numbers before the first epoch started.

    Workers start when the iterator is made, and Lightning fetches a batch ahead of data without a
    length.
    """
    return loader.num_workers > 0 or isinstance(loader.dataset, IterableDataset)


def _restart(trainer: Trainer) -> None:
    """Make Lightning's iterator anew."""
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)


def _skip(trainer: Trainer, batches: int) -> None:
    """Skip batches of the iterator that has just been made."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    loaders = training_loaders(trainer)
    if len(loaders) == 1 and _can_skip_samples(loaders[0]):
        (iterator,) = fetcher.combined_loader._iterator.iterators
        for _ in range(batches):
            iterator._next_index()
        return
    for _ in range(batches):
        if fetcher.length is None:
            # One batch is fetched ahead.
            fetcher.batches = [next(fetcher.iterator)]
        else:
            next(fetcher.iterator)


def _can_skip_samples(loader: Any) -> bool:
    """Whether the samples of skipped batches need not be fetched.

    Workers draw random numbers while they fetch. Those of this process are restored.
    """
    return (
        type(loader) is DataLoader
        and loader.num_workers == 0
        and not isinstance(loader.dataset, IterableDataset)
    )
