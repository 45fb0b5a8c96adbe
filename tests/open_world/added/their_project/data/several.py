"""Several loaders for one stage."""

from typing import Any

from torch.utils.data import DataLoader, Subset

from .blobs import BlobsDataModule


class TwoLoadersDataModule(BlobsDataModule):
    """Validates and tests on two domains each, the second half as large."""

    def both(self, split: int) -> list[DataLoader[Any]]:
        second = Subset(self.splits[split], range(15))
        return [self.loader(split), DataLoader(second, batch_size=5)]

    def val_dataloader(self) -> Any:
        return self.both(1)

    def test_dataloader(self) -> Any:
        return self.both(2)

    def predict_dataloader(self) -> Any:
        return self.both(2)


class CombinedDataModule(BlobsDataModule):
    """Trains on two loaders at a time, of different lengths."""

    def train_dataloader(self) -> Any:
        first = DataLoader(self.splits[0], batch_size=8, shuffle=True)
        second = DataLoader(self.splits[0], batch_size=5, shuffle=True)
        return {"labelled": first, "unlabelled": second}
