"""Each stage of a datamodule set up once, with the same random numbers in every command."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.model_helpers import is_overridden
from pytorch_lightning.utilities.seed import isolate_rng


def set_up_once(datamodule: LightningDataModule, seed: int | None) -> None:
    """Let `prepare_data` and `setup` of a datamodule run once for each stage, under a seed.

    The datamodule is set up before the model is built, and again by Lightning. A random split would
    then be drawn twice, and differently in `train.py` and `evaluate.py`.

    Args:
        datamodule: any; its two methods are replaced.
        seed: the run's; None leaves the random numbers as they are.
    """
    done: set[str] = set()
    teardown = datamodule.teardown if is_overridden("teardown", datamodule) else None
    datamodule.prepare_data = partial(_once, done, datamodule.prepare_data, seed)  # type: ignore[method-assign]
    datamodule.setup = partial(_set_up, done, datamodule.setup, seed)  # type: ignore[method-assign]
    if teardown is not None:
        datamodule.teardown = partial(_tear_down, done, teardown)  # type: ignore[method-assign]


def _once(done: set[str], method: Any, seed: int | None) -> None:
    if "prepare_data" not in done:
        with _seeded(seed):
            method()
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
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
        yield
