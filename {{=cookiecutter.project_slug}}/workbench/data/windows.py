"""Windows of a sequence of codes, for models that predict the next code."""

import hashlib
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import Dataset

from .batches import Batch

# The target of a code that serves as context only; the default of torch's cross-entropy.
IGNORED = -100


class Windows(Dataset[Batch]):
    """Windows of a sequence, each with the codes that follow its own.

    Window w predicts the codes from `begin + w * stride` on, `stride` of them, and the last one
    those that are left. The other targets are `IGNORED`.

    Args:
        codes: the sequence up to the last code to predict (N,), more than `block_size`.
        begin: position of the first code to predict, at least 1; so large that each window has
            `block_size` codes before its last target.
        block_size: length of a window.
        stride: number of codes that a window predicts.
        is_shifted: for training: predict `block_size` codes at a random position near that of the
            window instead.
    """

    def __init__(
        self, codes: Tensor, begin: int, block_size: int, stride: int, is_shifted: bool = False
    ) -> None:
        self.codes, self.block_size, self.is_shifted = codes, block_size, is_shifted
        self.begins = torch.arange(begin, len(codes), stride)
        self.ends = (self.begins + stride).clamp(max=len(codes))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of these windows; PyTorch calls this instead of `__getitem__`."""
        begins, ends = self.begins[indices], self.ends[indices]
        if self.is_shifted:
            ends = ends + torch.randint(-(self.block_size // 2), self.block_size // 2, ends.shape)
            ends = ends.clamp(min=self.block_size + 1, max=len(self.codes))
            begins = ends - self.block_size
        positions = ends[:, None] - torch.arange(self.block_size, 0, -1)
        targets = self.codes[positions].masked_fill(positions < begins[:, None], IGNORED)
        return self.codes[positions - 1], targets

    def __getitem__(self, index: int) -> Batch:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def fingerprint(self) -> str:
        """Equal for the same codes and the same windows."""
        content = hashlib.sha256(self.codes.numpy().data)
        content.update(f"{self.begins.tolist()} {self.block_size}".encode())
        return content.hexdigest()[:16]


def consecutive_windows(splits: Sequence[Tensor], block_size: int) -> dict[str, Dataset[Batch]]:
    """Windows of a sequence whose end is held out.

    Args:
        splits: the codes of the training, the validation and the test split, one after another;
            more than `block_size` for training.
        block_size: length of a window. In validation and test, at least half of it is context,
            which may belong to the preceding split.
    """
    codes, (train, val, test) = torch.cat(list(splits)), accumulate(map(len, splits))
    return {
        "train": Windows(codes[:train], 1, block_size, block_size, is_shifted=True),
        "val": Windows(codes[:val], train, block_size, block_size // 2),
        "test": Windows(codes[:test], val, block_size, block_size // 2),
    }
