"""Bits per character, the measure of language models and compressors."""

import math

from torch import Tensor

from .precision import PRECISE, EpochMean


class BitsPerCharacter(EpochMean):
    """The bits that the codes of an epoch take, divided by the number of its characters."""

    def update(self, value: Tensor, weight: float | Tensor) -> None:
        """Add the total loss of a batch in nats, and the number of characters that begin in it."""
        self.total += value.detach().to(PRECISE) / math.log(2)
        self.weight += weight
