"""Values of every step and of the epoch, and a schedule that follows one of its own."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy


class LitPlateau(LightningModule):
    def __init__(self, learning_rate: float = 0.5, patience: int = 0) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Linear(4, 3)
        self.train_acc, self.val_acc = MulticlassAccuracy(3), MulticlassAccuracy(3)
        self.running = MeanMetric()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = F.cross_entropy(logits, y)
        self.train_acc(logits, y)
        self.running.update(loss)
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("metrics/train/acc", self.train_acc, on_step=True, on_epoch=True)
        self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("running mean", self.running.compute())
        self.running.reset()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self.net(x)
        self.val_acc(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y), on_step=True, on_epoch=True)
        self.log("metrics/val/acc", self.val_acc, on_step=True, on_epoch=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("Test Loss (nats)", F.cross_entropy(self.net(x), y), on_step=True, on_epoch=True)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        probabilities = self.net(batch[0]).softmax(dim=1)
        return {"probabilities": probabilities, "best": probabilities.argmax(dim=1)}

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams["learning_rate"])
        # Maximises a loss that falls, so that the rate is lowered after every epoch.
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, mode="max", patience=self.hparams["patience"]
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss_epoch"},
        }
