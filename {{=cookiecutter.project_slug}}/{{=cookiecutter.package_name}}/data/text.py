"""A text for a language model: Python's help texts, or a file of your own."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from workbench.checks import check_choice, check_integer
from workbench.data.base import BaseDataModule
from workbench.data.batches import Batch
from workbench.data.text_file import python_help, read_text
from workbench.data.tokens import alphabet_of, encode
from workbench.data.windows import consecutive_windows
from workbench.errors import UserError


class TextDataModule(BaseDataModule):
    """A text whose end is held out: the training split comes first, then validation and test.

    Batches are codes (B, block_size) and the codes that follow each of them (B, block_size).

    In validation and test, every code is predicted exactly once, from the `block_size` codes before
    it or fewer, but at least half of them; some may belong to the preceding split. Training windows
    begin at random.

    The arguments not listed here are those of `BaseDataModule`.

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
        batch_size: int = 8,
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
        """Read the text and cut it into windows."""
        path, length = self.hparams["path"], self.hparams["block_size"]
        text = python_help() if path is None else read_text(Path(path).expanduser())
        self.characters = alphabet_of(text) if self.hparams["tokens"] == "characters" else None
        splits = [encode(split, self.characters) for split in self.cut(text)]
        if min(map(len, splits)) == 0 or len(splits[0]) <= length:
            raise UserError(
                f"The text has {len(text)} characters, too few for a validation and a test split, "
                f"and for data.block_size={length} in training: use a longer text."
            )
        return consecutive_windows(splits, length)

    def cut(self, text: str) -> list[str]:
        """The training, validation and test split of a text."""
        options = self.hparams
        test = len(text) - round(len(text) * options["test_fraction"])
        val = max(0, test - round(len(text) * options["val_fraction"]))
        return [text[begin:end] for begin, end in pairwise([0, val, test, len(text)])]
