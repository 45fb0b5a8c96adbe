"""One way to seed every random number generator."""

import random

import numpy as np
import torch

SEED_COUNT = 2**32


def seed_generators(seed: int, cpu_only: bool = False) -> None:
    """Seed the global generators of Python, NumPy (modulo 2**32) and torch."""
    random.seed(seed)
    np.random.seed(seed % SEED_COUNT)
    if cpu_only:
        # `torch.manual_seed` records where it was called, for devices that are not initialised yet.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
