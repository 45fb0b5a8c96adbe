"""The same random numbers in an epoch, however the run came there."""

import random

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from .loader_seed import seed_loaders

LARGEST_SEED = 2**32


class EpochSeed(Callback):
    """Seeds Python, NumPy and torch at the start of every epoch from (seed, epoch, process).

    Order of the data, dropout and augmentation of an epoch then do not depend on what ran before
    it, so a run that is resumed after an epoch ends with the weights of one that never stopped.
    What the training loaders draw is seeded as well, see `seed_loaders`.

    Args:
        seed: the run's seed; None leaves the random numbers alone.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed this epoch."""
        # The loaders get a seed in any case, so that an epoch can be resumed within.
        seed = int(torch.randint(LARGEST_SEED, ())) if self.seed is None else self.seed
        entropy = [seed, trainer.current_epoch, trainer.global_rank]
        if self.seed is not None:
            seed_everything(entropy, pl_module)
        seed_loaders(trainer, entropy)


class EvaluationSeed(Callback):
    """Starts every test and every prediction from the run's seed, so `evaluate.py` repeats them.

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
    """Seed Python, NumPy and torch."""
    seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed % LARGEST_SEED)
    if pl_module.device.type == "cpu":
        # `torch.manual_seed` notes where it was called, for devices that may yet be started.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
