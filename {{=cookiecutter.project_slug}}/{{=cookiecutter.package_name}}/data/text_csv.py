"""Your own labelled texts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from workbench.data.columns import MISSING
from workbench.data.csv_choices import Choices, make_plain
from workbench.data.csv_texts import TextTable, TextTableDataModule, read_csv_texts


class TextCSVDataModule(TextTableDataModule):
    """A CSV file with a text and a target in each row.

    Batches are dictionaries: `input_ids` and `attention_mask` (B, longest), and `label` (B,).

    The arguments not listed here are those of `CSVDataModule`.

    Args:
        text: the column of the texts, or a list of columns, which are joined.
        tokenizer: a folder in which transformers saved a tokenizer; null for UTF-8 bytes.
        max_length: in bytes or tokens; longer texts are cut.
    """

    def __init__(
        self,
        path: str,
        text: str | list[str] | None,
        target: str | list[str] | None,
        tokenizer: str | None = None,
        max_length: int = 512,
        group: str | None = None,
        split_column: str | None = None,
        task: str = "auto",
        delimiter: str | None = None,
        missing: Sequence[str] | None = MISSING,
        formats: Mapping[str, Sequence[str] | None] | None = None,
        batch_size: int = 32,
        val_fraction: float = 0.15,
        test_fraction: float = 0.2,
        split_seed: int = 42,
        folds: int | None = None,
        fold: int | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        make_plain(self.hparams)

    def read(self) -> TextTable:
        """All rows of the file. Change texts or targets of the result as you like."""
        path = Path(self.hparams["path"]).expanduser()
        return read_csv_texts(path, Choices.among(self.hparams))
