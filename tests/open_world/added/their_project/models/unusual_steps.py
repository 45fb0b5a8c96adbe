"""Overridden hooks and unusual returns of the training step."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .tutorial import LitClassifier


class WarmsUp(LitClassifier):
    """Warms up in `optimizer_step`, as the documentation shows; two schedules."""

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any]
    ) -> None:
        optimizer.step(closure=optimizer_closure)
        if self.trainer.global_step < 5:
            for group in optimizer.param_groups:
                group["lr"] = self.hparams["lr"] * (self.trainer.global_step + 1) / 5

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
        by_step = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.99)
        by_epoch = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        return [optimizer], [{"scheduler": by_step, "interval": "step"}, by_epoch]


class ReturnsDictionary(LitClassifier):
    """Returns more than the loss."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        x, y = batch
        logits = self(x)
        loss = F.cross_entropy(logits, y)
        self.log("train_loss", loss)
        return {"loss": loss, "logits": logits.detach(), "note": "ok"}


class SkipsBatches(LitClassifier):
    """Leaves out every third batch."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | None:
        if batch_idx % 3 == 2:
            return None
        return super().training_step(batch, batch_idx)


class ManualAccumulation(LitClassifier):
    """Accumulates and clips by hand, with a schedule by hand."""

    def __init__(self, lr: float = 0.02) -> None:
        super().__init__(lr=lr)
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.manual_backward(loss / 2)
        optimizer = self.optimizers()
        if (batch_idx + 1) % 2 == 0:
            self.clip_gradients(optimizer, 0.5)
            optimizer.step()
            optimizer.zero_grad()
        self.log("train_loss", loss, on_epoch=True)
        return loss


class MovingTeacher(LitClassifier):
    """Self-distillation: a teacher that follows the student in `on_train_batch_end`."""

    def __init__(self, lr: float = 0.02, momentum: float = 0.5) -> None:
        super().__init__(lr=lr)
        self.teacher = copy.deepcopy(self.head).requires_grad_(False)
        self.momentum = momentum

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        features = self.layers(x)
        loss = F.cross_entropy(self.head(features), y)
        loss = loss + F.mse_loss(self.head(features), self.teacher(features))
        self.log("train_loss", loss)
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        for old, new in zip(self.teacher.parameters(), self.head.parameters(), strict=True):
            old.data.lerp_(new.data, 1 - self.momentum)
