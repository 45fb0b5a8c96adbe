"""Random numbers that do not depend on what else is drawn."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class RandomStream:
    """A state of the global generators of Python, NumPy and torch (CPU) for one purpose.

    Args:
        seed: where it starts.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._state: tuple[Any, ...] | None = None

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Let what is drawn in the block come from this stream, and nothing else notice it."""
        outer = _state()
        if self._state is None:
            _start(self.seed)
        else:
            _set_state(self._state)
        try:
            yield
        finally:
            self._state = _state()
            _set_state(outer)


def _start(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)


def _state() -> tuple[Any, ...]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_state(state: tuple[Any, ...]) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
