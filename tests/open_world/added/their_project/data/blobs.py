"""Three clouds of points: a datamodule as Lightning's documentation writes it."""

from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset, random_split


class BlobsDataModule(LightningDataModule):
    def __init__(self, batch_size: int = 8, num_workers: int = 0, noise: float = 1.0) -> None:
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str | None = None) -> None:
        random = torch.Generator().manual_seed(1)
        y = torch.randint(3, (120,), generator=random)
        centres = torch.tensor([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
        x = centres[y] + self.hparams["noise"] * torch.randn(120, 4, generator=random)
        self.splits = random_split(TensorDataset(x, y), [60, 30, 30], generator=random)

    def loader(self, split: int, **options: Any) -> DataLoader[Any]:
        return DataLoader(
            self.splits[split],
            batch_size=self.hparams["batch_size"],
            num_workers=self.hparams["num_workers"],
            **options,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(0, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(1)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader(2)

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.loader(2)


class NamedBlobs(BlobsDataModule):
    """Says what the built-in models ask for."""

    num_classes = 3
    class_names = ("left", "middle", "right")
    input_shape = (4,)


class TrainOnly(LightningDataModule):
    """No validation, no test."""

    def train_dataloader(self) -> DataLoader[Any]:
        blobs = BlobsDataModule()
        blobs.setup()
        return blobs.train_dataloader()
