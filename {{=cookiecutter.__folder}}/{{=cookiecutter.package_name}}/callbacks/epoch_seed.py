"""The same random numbers in an epoch, however the run came there."""

import random

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

LARGEST_SEED = 2**32


class EpochSeed(Callback):
    """Seeds Python, NumPy and torch at the start of every epoch from (seed, epoch, process).

    Order of the data, dropout and augmentation of an epoch then do not depend on what ran before
    it, so a run that is resumed after an epoch ends with the weights of one that never stopped.

    Args:
        seed: the run's seed; None leaves the random numbers alone.
    """

    def __init__(self, seed: int | None) -> None:
        self.seed = seed

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed this epoch."""
        if self.seed is None:
            return
        entropy = [self.seed, trainer.current_epoch, trainer.global_rank]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed % LARGEST_SEED)
        if pl_module.device.type == "cpu":
            # `torch.manual_seed` notes where it was called, for devices that may yet be started.
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
