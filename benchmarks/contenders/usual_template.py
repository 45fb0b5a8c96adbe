"""The way that the usual templates of Lightning and Hydra train.

Pictures are turned into tensors one by one and stacked by the default collate function, every
metric is computed and logged at every step, and the usual callbacks look on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from pytorch_lightning import Callback, LightningDataModule, LightningModule
from pytorch_lightning.callbacks import (
    EarlyStopping,
    ModelCheckpoint,
    RichModelSummary,
    RichProgressBar,
)
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, random_split
from torchmetrics import MaxMetric, MeanMetric
from torchmetrics.classification import Accuracy
from torchvision.transforms import Compose, Normalize, ToTensor

Batch = tuple[Tensor, Tensor]


class Pictures(Dataset[Any]):
    """Pictures that become tensors one at a time.

    Args:
        pixels: uint8 (N, C, H, W).
        labels: int64 (N,).
    """

    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels = pixels, labels
        channels = pixels.shape[1]
        self.transform = Compose([ToTensor(), Normalize((0.5,) * channels, (0.5,) * channels)])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        array = self.pixels[index].permute(1, 2, 0).squeeze(-1).numpy()
        return self.transform(Image.fromarray(array)), int(self.labels[index])


class DigitsData(LightningDataModule):
    """The digits of scikit-learn."""

    def __init__(self, batch_size: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.batch_size, self.sizes = batch_size, sizes
        self.parts: list[Subset[Any]] = []

    def setup(self, stage: str | None = None) -> None:
        """Read and split."""
        from sklearn.datasets import load_digits

        if not self.parts:
            digits = load_digits()
            pixels = (torch.from_numpy(digits.images) * 255 / 16).to(torch.uint8).unsqueeze(1)
            pictures = Pictures(pixels, torch.from_numpy(digits.target).long())
            self.parts = random_split(pictures, self.sizes)

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches."""
        return DataLoader(self.parts[0], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        """Validation batches."""
        return DataLoader(self.parts[1], batch_size=self.batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test batches."""
        return DataLoader(self.parts[2], batch_size=self.batch_size)


class UsualModule(LightningModule):
    """A classifier with the metrics of each step.

    Args:
        net: the network.
        lr: rate of Adam, lowered on a plateau of the validation loss.
        num_classes: number of classes.
    """

    def __init__(self, net: nn.Module, lr: float = 1e-3, num_classes: int = 10) -> None:
        super().__init__()
        self.net, self.lr = net, lr
        self.criterion = nn.CrossEntropyLoss()
        stages = ("train", "val", "test")
        self.losses = nn.ModuleDict({f"{stage}_": MeanMetric() for stage in stages})
        self.accuracies = nn.ModuleDict(
            {f"{stage}_": Accuracy(task="multiclass", num_classes=num_classes) for stage in stages}
        )
        self.best = MaxMetric()

    def forward(self, x: Tensor) -> Tensor:
        """Logits."""
        return self.net(x)

    def step(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch; loss and accuracy are logged."""
        x, y = batch
        logits = self(x)
        loss = self.criterion(logits, y)
        mean, accuracy = self.losses[f"{stage}_"], self.accuracies[f"{stage}_"]
        mean(loss)
        accuracy(logits.argmax(dim=1), y)
        # Lightning itself takes the metric's value of the epoch.
        for name, metric in (("loss", mean), ("acc", accuracy)):
            self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True, prog_bar=True)  # type: ignore[arg-type]
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimisation step."""
        return self.step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the validation part."""
        self.step(batch, "val")

    def on_validation_epoch_end(self) -> None:
        """Remember the best accuracy."""
        self.best(self.accuracies["val_"].compute())  # type: ignore[operator]
        self.log("val/acc_best", self.best.compute(), prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test part."""
        self.step(batch, "test")

    def configure_optimizers(self) -> Any:
        """Adam, and its rate by the validation loss."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=10)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "monitor": "val/loss"},
        }


def usual_callbacks(folder: Path) -> list[Callback]:
    """The callbacks that such a template switches on by itself."""
    return [
        ModelCheckpoint(
            dirpath=folder / "checkpoints",
            filename="epoch_{epoch:03d}",
            monitor="val/acc",
            mode="max",
            save_last=True,
            auto_insert_metric_name=False,
        ),
        EarlyStopping(monitor="val/acc", mode="max", patience=100),
        RichModelSummary(max_depth=-1),
        RichProgressBar(),
    ]
