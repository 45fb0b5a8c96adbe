"""Samples without an end or a known number."""

from collections.abc import Iterator
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset


class Stream(IterableDataset[Any]):
    """Points of two classes, one after the other; `count=None` never ends."""

    def __init__(self, count: int | None) -> None:
        self.count = count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        drawn = 0
        while self.count is None or drawn < self.count:
            y = torch.randint(2, ())
            yield torch.randn(4) + y, y
            drawn += 1


class StreamDataModule(LightningDataModule):
    def __init__(self, batch_size: int = 4, endless: bool = True) -> None:
        super().__init__()
        self.batch_size, self.endless = batch_size, endless

    def train_dataloader(self) -> DataLoader[Any]:
        stream = Stream(None if self.endless else 30)
        return DataLoader(stream, batch_size=self.batch_size)

    def fixed(self, seed: int) -> DataLoader[Any]:
        random = torch.Generator().manual_seed(seed)
        y = torch.randint(2, (20,), generator=random)
        x = torch.randn(20, 4, generator=random) + y[:, None]
        return DataLoader(TensorDataset(x, y), batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.fixed(1)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.fixed(2)

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.fixed(2)
