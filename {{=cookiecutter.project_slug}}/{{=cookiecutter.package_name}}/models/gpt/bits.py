"""Bits per character, the measure of language models and compressors."""

import math

from torch import Tensor

from workbench.models.precision import PRECISE, EpochMean


class BitsPerCharacter(EpochMean):
    """The bits that the codes of an epoch take, divided by the number of its characters."""

    def update(self, nats: Tensor, characters: Tensor) -> None:
        """Add the total loss of a batch and its number of characters, of which bytes are parts."""
        self.total += nats.detach().to(PRECISE) / math.log(2)
        self.weight += characters
