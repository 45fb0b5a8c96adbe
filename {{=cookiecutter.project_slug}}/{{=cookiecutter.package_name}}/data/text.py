"""Text to be continued: Python's help texts, or a file of your own."""

from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from workbench.checks import check_choice, check_integer
from workbench.data.base import BaseDataModule
from workbench.data.batches import Batch
from workbench.data.text_file import read_text
from workbench.errors import UserError

from .tokens import alphabet_of, encode

# The target of a code that serves as context only; the default of torch's cross-entropy.
IGNORED = -100


class TextDataModule(BaseDataModule):
    """A text, of which the end is held out: first the training, then the validation and test part.

    Batches are codes (B, block_size) and the codes that follow each of them (B, block_size).

    In validation and test, every character is predicted exactly once, from the `block_size / 2` to
    `block_size` codes before it, which may lie in the preceding part. Training windows begin at
    random.

    The arguments not listed here are those of `BaseDataModule`, without the random splits.

    Args:
        path: a UTF-8 file; null for the help texts that are part of Python.
        tokens: "characters" or "bytes".
        block_size: length of a window, and the maximum context.
    """

    task = "text"

    def __init__(
        self,
        path: str | None = None,
        tokens: str = "characters",
        block_size: int = 128,
        batch_size: int = 32,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
    ) -> None:
        super().__init__()
        path = None if path is None else str(path)
        self.save_hyperparameters(logger=False)

    def check_arguments(self) -> None:
        """Raise a UserError for an argument that cannot be used."""
        super().check_arguments()
        check_choice("data.tokens", self.hparams["tokens"], ["characters", "bytes"])
        check_integer("data.block_size", self.hparams["block_size"], 2)

    def describe(self) -> dict[str, Any]:
        """Facts for the model: the characters, None for bytes, and the maximum context."""
        return {"characters": self.characters, "block_size": self.hparams["block_size"]}

    def load(self) -> dict[str, Dataset[Batch]]:
        """Read the text and cut it into windows.

        Raises:
            UserError: the file cannot be read, or is too short.
        """
        path = self.hparams["path"]
        text = python_help() if path is None else read_text(Path(path).expanduser())
        self.characters = alphabet_of(text) if self.hparams["tokens"] == "characters" else None
        codes = [encode(part, self.characters) for part in self.parts(text)]
        block_size = self.hparams["block_size"]
        if min(map(len, codes)) == 0 or len(codes[0]) <= block_size:
            raise UserError(
                f"The text has {len(text)} characters, too few for a validation and a test part, "
                f"and for data.block_size={block_size} in training: use a longer text."
            )
        whole, (train, val, test) = torch.cat(codes), accumulate(map(len, codes))
        return {
            "train": Windows(whole[:train], 1, block_size, block_size, is_shifted=True),
            "val": Windows(whole[:val], train, block_size, block_size // 2),
            "test": Windows(whole[:test], val, block_size, block_size // 2),
        }

    def parts(self, text: str) -> list[str]:
        """The training, validation and test part of the text."""
        options = self.hparams
        test = len(text) - round(len(text) * options["test_fraction"])
        val = max(0, test - round(len(text) * options["val_fraction"]))
        return [text[begin:end] for begin, end in pairwise([0, val, test, len(text)])]


class Windows(Dataset[Batch]):
    """Windows of a text, each with the codes that follow its own.

    Window w predicts the codes from `begin + w * stride` on, `stride` of them, and the last one
    those that are left. The other targets are `IGNORED`.

    Args:
        codes: the text up to the end of the part (N,), more than `block_size`.
        begin: position of the first code to predict, at least 1.
        block_size: length of a window.
        stride: number of codes that a window predicts.
        is_shifted: predict `block_size` codes at a random position near that of the window instead.
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


def python_help() -> str:
    """The texts of Python's `help()` on topics such as "for": 465,000 characters in Python 3.11."""
    from pydoc_data.topics import topics

    return "".join(topics.values())
