"""What the training loaders draw, seeded for each epoch, and their position within one.

A DataLoader draws the seed of its workers, and its sampler draws the order. By default both draw
from torch's global generator, at times that differ between a run that is resumed and one that is
not: Lightning makes the first iterator before the first epoch starts.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from lightning_fabric.utilities.types import _Stateful
from pytorch_lightning import Trainer
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from .random_stream import RandomStream

# For each loader and sampler the seed of the generator that its owner gave it, None without one.
_given: WeakKeyDictionary[Any, int | None] = WeakKeyDictionary()
# The random numbers of loaders that draw from the global generators, in this epoch.
_streams: WeakKeyDictionary[Any, RandomStream] = WeakKeyDictionary()


def training_loaders(trainer: Trainer) -> list[Any]:
    """The training loaders, one by one."""
    return list(CombinedLoader(trainer.train_dataloader).flattened)


def seed_loaders(trainer: Trainer, entropy: list[int]) -> None:
    """Seed what the training loaders draw in the epoch that begins.

    A generator that somebody gave to a loader or sampler keeps the seed that it was given: the
    order is then the same for all seeds of the run, and differs from epoch to epoch.

    Args:
        trainer: at the start of an epoch.
        entropy: the seed of the run, the epoch and the process.
    """
    loaders = [loader for loader in training_loaders(trainer) if isinstance(loader, DataLoader)]
    for number, loader in enumerate(loaders):
        for part, owner in enumerate(_drawing_parts(loader)):
            given = _given_seed(owner)
            start = entropy if given is None else [given, *entropy[1:]]
            owner.generator = _generator(_seed([*start, number, part]))
        if _draws_globally(loader):
            _give_stream(loader, _seed([*entropy, number]))
        if loader.persistent_workers and not getattr(loader.dataset, "is_deterministic", False):
            # The workers would continue with the random numbers of the epochs before. A dataset
            # that draws none says so by `is_deterministic = True` and keeps its workers.
            loader._iterator = None
    if any(map(_starts_early, loaders)) and not _is_restarted_by_lightning(trainer):
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
        for owner, seed in zip(_drawing_parts(loader), state["generators"], strict=True):
            _given_seed(owner)
            owner.generator = _generator(seed)
        if state["stream"] is not None:
            _give_stream(loader, state["stream"])
        loader._iterator = None
    _restart(trainer)
    if not any(isinstance(loader, _Stateful) for loader in loaders):
        _skip(trainer, batches)
    return True


def _seeds(loader: Any) -> dict[str, Any] | None:
    """The seeds of a loader in this epoch; None where they are not known."""
    if not isinstance(loader, DataLoader):
        return None
    generators = [owner.generator for owner in _drawing_parts(loader)]
    if None in generators:
        return None
    stream = _streams.get(loader)
    return {
        "generators": [generator.initial_seed() for generator in generators],
        "stream": None if stream is None else stream.seed,
    }


def _samplers(loader: DataLoader[Any]) -> list[Any]:
    """The samplers of a loader, and those within them."""
    found: list[Any] = []
    waiting = [loader.sampler, loader.batch_sampler]
    while waiting:
        sampler = waiting.pop(0)
        if sampler is not None and not any(sampler is other for other in found):
            found.append(sampler)
            waiting.append(getattr(sampler, "sampler", None))
    return found


def _is_of_torch(sampler: Any) -> bool:
    return type(sampler).__module__.partition(".")[0] == "torch"


def _drawing_parts(loader: DataLoader[Any]) -> list[Any]:
    """The loader and its samplers, as far as they take a generator."""
    own = [
        s for s in _samplers(loader) if isinstance(getattr(s, "generator", None), torch.Generator)
    ]
    of_torch = [s for s in _samplers(loader) if _is_of_torch(s) and hasattr(s, "generator")]
    return [loader, *of_torch, *(s for s in own if not _is_of_torch(s))]


def _draws_globally(loader: DataLoader[Any]) -> bool:
    """Whether a loader may draw from the global generators between two steps of the model.

    What a dataset of single samples draws is repeated by restoring these, see `_can_skip_samples`.
    """
    if isinstance(loader.dataset, IterableDataset):
        return loader.num_workers == 0
    return not all(map(_is_of_torch, _samplers(loader)))


def _given_seed(owner: Any) -> int | None:
    if owner not in _given:
        _given[owner] = None if owner.generator is None else owner.generator.initial_seed()
    return _given[owner]


def _give_stream(loader: DataLoader[Any], seed: int) -> None:
    """Let a loader draw from random numbers of its own."""
    _streams[loader] = RandomStream(seed)
    loader._get_iterator = partial(_IteratorOfStream, loader)  # type: ignore[assignment,method-assign]


class _IteratorOfStream(Iterator[Any]):
    """The iterator of a loader that draws from random numbers of its own."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        with _streams[loader].drawing():
            self._iterator = type(loader)._get_iterator(loader)

    def __next__(self) -> Any:
        with _streams[self._loader].drawing():
            return next(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


def _seed(entropy: list[int]) -> int:
    # A seed that somebody gave may be negative.
    words = [abs(number) for number in entropy]
    (seed,) = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(seed) >> 1


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _starts_early(loader: DataLoader[Any]) -> bool:
    """Whether a loader has drawn random numbers before the first epoch started.

    Workers start when the iterator is made, and Lightning fetches a batch ahead of data without a
    length.
    """
    return loader.num_workers > 0 or loader in _streams


def _is_restarted_by_lightning(trainer: Trainer) -> bool:
    """Whether Lightning makes the iterator anew for the epoch that begins; see its epoch loop."""
    loop = trainer.fit_loop
    return trainer.current_epoch > 0 and not (loop.is_resuming or loop.epoch_loop.restarting)


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
    return type(loader) is DataLoader and loader.num_workers == 0 and loader not in _streams
