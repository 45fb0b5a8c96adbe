"""Codes of texts of different lengths, padded by the batch."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from .batches import LABEL
from .splits import Indices

# Names of the library transformers, so that its models can be called with a batch.
CODES, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True)
class Sequences:
    """Sequences of codes.

    Args:
        codes: those of all sequences, one after another.
        starts: position of the first code of each sequence (N,).
        lengths: number of codes of each sequence (N,), at least 1.
        pad: the code that fills up the shorter sequences of a batch.
    """

    codes: NDArray[np.int32]
    starts: Indices
    lengths: Indices
    pad: int

    @classmethod
    def from_lists(cls, lists: Sequence[Any], pad: int) -> "Sequences":
        """The sequences of these codes; an empty one becomes a single `pad`.

        Attention over nothing would be NaN.
        """
        filled = [np.asarray(codes if len(codes) else [pad], np.int32) for codes in lists]
        lengths = np.array([len(codes) for codes in filled], np.int64)
        codes = np.concatenate(filled) if filled else np.empty(0, np.int32)
        return cls(codes, np.cumsum(lengths) - lengths, lengths, pad)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, rows: NDArray[Any]) -> "Sequences":
        """The sequences at these positions, or where a mask is true."""
        return Sequences(self.codes, self.starts[rows], self.lengths[rows], self.pad)

    def padded(self) -> dict[str, Tensor]:
        """All sequences as `input_ids` and `attention_mask`, int64 (N, longest)."""
        places = np.arange(self.lengths.max(initial=1))
        mask = places < self.lengths[:, None]
        codes = np.full(mask.shape, self.pad, np.int64)
        codes[mask] = self.codes[(self.starts[:, None] + places)[mask]]
        return {CODES: torch.from_numpy(codes), MASK: torch.from_numpy(mask.astype(np.int64))}

    def split(self, size: int) -> Iterator[dict[str, Tensor]]:
        """Batches of `size` sequences and a smaller last one, each padded to its longest."""
        for start in range(0, len(self), size):
            yield self[np.arange(start, min(start + size, len(self)))].padded()


class TextDataset(Dataset[dict[str, Tensor]]):
    """Texts with a target each, fetched by the batch.

    A batch has `input_ids` and `attention_mask` (B, longest) and `label`, as `y`.

    Args:
        x: the texts (N,).
        y: class numbers or values (N,), or those of several targets (N, T).
    """

    def __init__(self, x: Sequences, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        """The batch of these samples; PyTorch calls this instead of `__getitem__`."""
        return self.x[np.array(indices)].padded() | {LABEL: self.y[indices]}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: values[0] for name, values in self.__getitems__([index]).items()}

    def fingerprint(self) -> str:
        """Equal for the same samples in the same order."""
        content = hashlib.sha256(self.x.lengths.tobytes())
        for batch in self.x.split(1000):
            content.update(batch[CODES].numpy().data)
        content.update(self.y.contiguous().numpy().data)
        return content.hexdigest()[:16]
