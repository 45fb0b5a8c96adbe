"""The random numbers of an epoch, of an evaluation and of the training loaders.

A DataLoader draws the seed of its workers, and its sampler draws the order. By default both draw
from torch's global generator, at times that differ between a resumed run and an uninterrupted one:
Lightning creates the first iterator before the first epoch starts.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from lightning_fabric.utilities.data import _set_sampler_epoch
from lightning_fabric.utilities.types import _Stateful
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, IterableDataset

from ..seeding import SEED_COUNT, seed_generators

# The seed of the generator that each loader and sampler was given by the user; None without one.
_given: WeakKeyDictionary[Any, int | None] = WeakKeyDictionary()
# In this epoch, the random numbers of the loaders that draw from the global generators.
_streams: WeakKeyDictionary[Any, "RandomStream"] = WeakKeyDictionary()


class EpochSeed(Callback):
    """Seeds Python, NumPy and torch at the start of every epoch from (seed, epoch, process).

    Data order, dropout and augmentation of an epoch then do not depend on what ran before it, so a
    run resumed after an epoch ends with the same weights as an uninterrupted one. What the training
    loaders draw is seeded as well, see `seed_loaders`.

    Args:
        seed: the run's seed; None leaves the random numbers alone.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed this epoch."""
        # The loaders always get a seed, so that a run can be resumed within an epoch.
        seed = int(torch.randint(SEED_COUNT, ())) if self.seed is None else self.seed
        entropy = [seed, trainer.current_epoch, trainer.global_rank]
        if self.seed is not None:
            seed_everything(entropy, pl_module)
        seed_loaders(trainer, entropy)


class EvaluationSeed(Callback):
    """Seeds every test and prediction with the run's seed, so that `evaluate.py` reproduces them.

    Args:
        seed: the run's seed; None leaves the random numbers alone.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed a test."""
        if self.seed is not None:
            seed_everything([self.seed, trainer.global_rank], pl_module)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed predictions."""
        self.on_test_start(trainer, pl_module)


def seed_everything(entropy: list[int], pl_module: LightningModule) -> None:
    """Seed Python, NumPy and torch, also on the model's device."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    seed_generators(seed, cpu_only=pl_module.device.type == "cpu")


class RandomStream:
    """A separate state of the global generators of Python, NumPy and torch (CPU)."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state: tuple[Any, ...] | None = None

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Within this context the global generators draw from this stream."""
        outer = _state()
        if self._state is None:
            seed_generators(self.seed, cpu_only=True)
        else:
            _set_state(self._state)
        try:
            yield
        finally:
            self._state = _state()
            _set_state(outer)


def _state() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_state(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])


def training_loaders(trainer: Trainer) -> list[Any]:
    """The training loaders, one by one."""
    return list(CombinedLoader(trainer.train_dataloader).flattened)


def seed_loaders(trainer: Trainer, entropy: list[int]) -> None:
    """Seed what the training loaders draw in the epoch that begins.

    A generator that the user gave to a loader or sampler keeps its seed: the order is then the same
    for all seeds of the run, and differs between epochs.

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
            # The workers would continue with the random numbers of earlier epochs. A dataset that
            # draws none declares `is_deterministic = True` and keeps its workers.
            loader._iterator = None
    if any(map(_starts_early, loaders)) and not _is_restarted_by_lightning(trainer):
        _restart(trainer)


def loader_states(trainer: Trainer) -> list[Any]:
    """What `continue_loaders` needs: the seeds of each loader, or its own state."""
    return [
        loader.state_dict() if isinstance(loader, _Stateful) else _seeds(loader)
        for loader in training_loaders(trainer)
    ]


def continue_loaders(trainer: Trainer, states: list[Any], batches: int) -> bool:
    """Continue the current epoch after some batches; False if a loader cannot.

    Args:
        trainer: before the first remaining batch.
        states: what `loader_states` returned.
        batches: number of batches already trained.
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
    """The seeds of a loader in this epoch; None if they are unknown."""
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
    """The samplers of a loader, nested ones included."""
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
    """The loader and those of its samplers that take a generator."""
    own = [
        s for s in _samplers(loader) if isinstance(getattr(s, "generator", None), torch.Generator)
    ]
    of_torch = [s for s in _samplers(loader) if _is_of_torch(s) and hasattr(s, "generator")]
    return [loader, *of_torch, *(s for s in own if not _is_of_torch(s))]


def _draws_globally(loader: DataLoader[Any]) -> bool:
    """Whether a loader may draw from the global generators between two steps of the model.

    What a map-style dataset draws is reproduced by restoring these, see `_can_skip_samples`.
    """
    if isinstance(loader.dataset, IterableDataset):
        return loader.num_workers == 0
    return not all(map(_is_of_torch, _samplers(loader)))


def _given_seed(owner: Any) -> int | None:
    if owner not in _given:
        _given[owner] = None if owner.generator is None else owner.generator.initial_seed()
    return _given[owner]


def _give_stream(loader: DataLoader[Any], seed: int) -> None:
    """Make a loader draw from a random stream of its own."""
    _streams[loader] = RandomStream(seed)
    loader._get_iterator = partial(_IteratorOfStream, loader)  # type: ignore[assignment,method-assign]


class _IteratorOfStream(Iterator[Any]):
    """The iterator of a loader that draws from a random stream of its own."""

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
    # A seed given by the user may be negative.
    words = [abs(number) for number in entropy]
    (seed,) = np.random.SeedSequence(words).generate_state(1, np.uint64)
    return int(seed) >> 1


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _starts_early(loader: DataLoader[Any]) -> bool:
    """Whether a loader has drawn random numbers before the first epoch started.

    Workers start when the iterator is created, and Lightning prefetches a batch of data without a
    length.
    """
    return loader.num_workers > 0 or loader in _streams


def _is_restarted_by_lightning(trainer: Trainer) -> bool:
    """Whether Lightning recreates the iterator for the epoch that begins; see its epoch loop."""
    loop = trainer.fit_loop
    return trainer.current_epoch > 0 and not (loop.is_resuming or loop.epoch_loop.restarting)


def _restart(trainer: Trainer) -> None:
    """Recreate Lightning's iterator."""
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    iter(fetcher)


def _skip(trainer: Trainer, batches: int) -> None:
    """Skip batches of the iterator that has just been created."""
    fetcher: Any = trainer.fit_loop._data_fetcher
    loaders = training_loaders(trainer)
    if len(loaders) == 1 and _can_skip_samples(loaders[0]):
        (iterator,) = fetcher.combined_loader._iterator.iterators
        for _ in range(batches):
            iterator._next_index()
        return
    for _ in range(batches):
        if fetcher.length is None:
            # One batch is prefetched.
            fetcher.batches = [next(fetcher.iterator)]
        else:
            next(fetcher.iterator)


def _can_skip_samples(loader: Any) -> bool:
    """Whether batches can be skipped without loading their samples.

    Workers draw random numbers while they load. Those of this process are restored.
    """
    return type(loader) is DataLoader and loader.num_workers == 0 and loader not in _streams
