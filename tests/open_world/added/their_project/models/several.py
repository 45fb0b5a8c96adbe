"""Several loaders a stage, and none."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F


class TrainOnly(LightningModule):
    """Nothing to validate or test."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.linear = nn.Linear(4, 3)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = F.cross_entropy(self.linear(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


class TwoDomains(TrainOnly):
    """Validates and tests on two loaders."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", F.cross_entropy(self.linear(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        name = ("source", "target")[dataloader_idx]
        loss = F.cross_entropy(self.linear(batch[0]), batch[1])
        self.log(f"test_{name}", loss, add_dataloader_idx=False)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.linear(batch[0]).softmax(dim=1)


class Combined(TwoDomains):
    """Trains on a dictionary of two loaders."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch["labelled"]
        extra, _ = batch["unlabelled"]
        loss = F.cross_entropy(self.linear(x), y) + 0.01 * self.linear(extra).square().mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(x))
        return loss


class BoringPair(LightningModule):
    """Lightning's boring model for the pairs of batches of `IterableBoringDataModule`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return sum(self.layer(part).square().mean() for part in batch)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("x", self.layer(batch).square().mean())

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("y", self.layer(batch).square().mean())

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        return self.layer(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)
