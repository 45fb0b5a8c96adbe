"""Ways to train a network without a project: a raw loop, and modules for Lightning's trainer.

All have the same network, loaders, optimizer and schedule, and validate after every epoch.
"""

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

Batch = tuple[Tensor, Tensor]
LR, WEIGHT_DECAY = 2e-3, 1e-2
WARMUP = 0.1


def optimizer_and_schedule(net: nn.Module, steps: int) -> tuple[AdamW, LambdaLR]:
    """AdamW with a warm-up and half a cosine over so many steps."""
    optimizer = AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)

    def factor(step: int) -> float:
        share = step / steps
        if share < WARMUP:
            return share / WARMUP
        return 0.5 * (1 + math.cos(math.pi * (share - WARMUP) / (1 - WARMUP)))

    return optimizer, LambdaLR(optimizer, factor)


def cross_entropy(outputs: Tensor, y: Tensor, reduction: str = "mean") -> Tensor:
    """Loss of logits (B, C) or of every position of a text (B, T, C)."""
    return F.cross_entropy(outputs.flatten(0, -2), y.flatten(), reduction=reduction)


def train_by_hand(
    net: nn.Module,
    train: Iterable[Batch],
    val: Iterable[Batch],
    epochs: int,
    steps: int,
    on_epoch: Callable[[], None],
    precision: Callable[[], AbstractContextManager[Any]] = nullcontext,
    on_steps_end: Callable[[], None] = lambda: None,
) -> None:
    """The raw loop.

    Args:
        net: the network, on the device of the batches.
        train: training batches.
        val: validation batches.
        epochs: how often it goes over the data.
        steps: in all epochs together.
        on_epoch: called at the start of each epoch.
        precision: what losses are computed in.
        on_steps_end: called between the last step of each epoch and its validation.
    """
    device = next(net.parameters()).device
    optimizer, schedule = optimizer_and_schedule(net, steps)
    for _ in range(epochs):
        on_epoch()
        net.train()
        for x, y in train:
            optimizer.zero_grad()
            with precision():
                loss = cross_entropy(net(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        on_steps_end()
        net.eval()
        total, correct = torch.zeros(2, device=device).unbind()
        with torch.no_grad(), precision():
            for x, y in val:
                outputs = net(x)
                total += cross_entropy(outputs, y, reduction="sum")
                correct += (outputs.argmax(dim=-1) == y).sum()
        print(f"loss {total.item()}, correct {correct.item()}")


class Bare(LightningModule):
    """Only what the trainer needs; nothing is logged."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        x, y = batch
        return cross_entropy(self.net(x), y)

    def validation_step(self, batch: Batch, batch_idx: int) -> Any:
        """Loss and share of right answers of a batch."""
        x, y = batch
        outputs = self.net(x)
        return cross_entropy(outputs, y), (outputs.argmax(dim=-1) == y).float().mean()

    def configure_optimizers(self) -> Any:
        """AdamW, its rate set at every step."""
        steps = int(self.trainer.estimated_stepping_batches)
        optimizer, schedule = optimizer_and_schedule(self.net, steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Logging(Bare):
    """The module of a first tutorial: it logs the loss of each step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        loss = super().training_step(batch, batch_idx)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Loss and share of right answers of a batch."""
        loss, accuracy = super().validation_step(batch, batch_idx)
        self.log_dict({"val_loss": loss, "val_acc": accuracy}, prog_bar=True)
