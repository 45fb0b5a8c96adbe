"""A text file for the language models of Lightning's demos."""

from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from pytorch_lightning.demos.transformer import WikiText2
from torch.utils.data import DataLoader, Subset


class TextDataModule(LightningDataModule):
    """Reads `wikitext-2.txt` of a folder; its number of words is the model's vocabulary."""

    def __init__(self, folder: str, block_size: int = 8, batch_size: int = 4) -> None:
        super().__init__()
        self.dataset = WikiText2(Path(folder), block_size=block_size, download=False)
        self.vocab_size = self.dataset.vocab_size
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        blocks = Subset(self.dataset, range(5 * self.batch_size))
        return DataLoader(blocks, batch_size=self.batch_size, shuffle=True, drop_last=True)
