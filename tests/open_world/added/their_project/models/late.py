"""Modules that are only complete once the trainer and the data are there, or hold odd values."""

from argparse import Namespace
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .tutorial import LitClassifier


class BuiltInSetup(LitClassifier):
    """Asks the trainer for the data, as tutorials about datamodules do."""

    def setup(self, stage: str) -> None:
        if not hasattr(self, "scale"):
            classes = self.trainer.datamodule.num_classes
            self.scale = nn.Linear(3, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(super().forward(x))


class BuiltInConfigureModel(LitClassifier):
    """Builds its layers where sharding strategies want them."""

    def configure_model(self) -> None:
        if not hasattr(self, "scale"):
            self.scale = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale(super().forward(x))


class SecondOrder(LitClassifier):
    """An optimizer that calls its closure several times a step."""

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=self.hparams["lr"], max_iter=3)


class FrozenHalf(LitClassifier):
    """Fine-tuning: groups with rates of their own, thawed after an epoch."""

    def on_train_epoch_start(self) -> None:
        for parameter in self.layers.parameters():
            parameter.requires_grad = self.current_epoch > 0

    def configure_optimizers(self) -> Any:
        groups = [
            {"params": self.layers.parameters(), "lr": self.hparams["lr"] / 10, "name": "body"},
            {"params": self.head.parameters(), "name": "head"},
        ]
        optimizer = torch.optim.SGD(groups, lr=self.hparams["lr"], momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3)]


class Pooling(Enum):
    MEAN = "mean"
    MAX = "max"


@dataclass
class Options:
    depth: int = 1


class OddValues(LitClassifier):
    """Hyperparameters and checkpoint entries of every kind."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.hparams["folder"] = Path("somewhere")
        self.hparams["pooling"] = Pooling.MAX
        self.hparams["options"] = Options()
        self.hparams["loss"] = F.cross_entropy
        self.hparams["space"] = Namespace(a=1)
        self.hparams["weights"] = np.ones(3)
        self.hparams["nested"] = {"layers": [nn.Linear(1, 1)], "names": {"a", "b"}}
        self.seen = 0
        self.queue = [torch.zeros(2)]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen += len(batch[0])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seen"] = self.seen
        checkpoint["queue"] = self.queue
        checkpoint["written_by"] = Path("me")
        checkpoint["numpy"] = np.float64(self.seen)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.seen = checkpoint["seen"]
        self.queue = checkpoint["queue"]

    def on_validation_epoch_end(self) -> None:
        self.log("seen", float(self.seen))


class OwnLoaders(LitClassifier):
    """Brings its data itself."""

    def loader(self, split: int, **options: Any) -> Any:
        from ..data.blobs import BlobsDataModule

        blobs = BlobsDataModule()
        blobs.setup()
        return blobs.loader(split, **options)

    def train_dataloader(self) -> Any:
        return self.loader(0, shuffle=True)

    def val_dataloader(self) -> Any:
        return self.loader(1)

    def test_dataloader(self) -> Any:
        return self.loader(2)

    def predict_dataloader(self) -> Any:
        return self.loader(2)
