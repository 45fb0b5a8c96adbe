"""A GAN with steps by hand."""

from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F


class GAN(LightningModule):
    """Two optimizers, two schedules, toggling; `training_step` returns nothing."""

    def __init__(self, latent_dim: int = 3, lr: float = 0.01, b1: float = 0.5) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent_dim, 8), nn.ReLU(), nn.Linear(8, 4))
        self.discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        self.validation_z = torch.randn(16, latent_dim)
        self.example_input_array = torch.zeros(2, latent_dim)

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def adversarial(self, x: Tensor, real: bool) -> Tensor:
        logits = self.discriminator(x)
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))

    def training_step(self, batch: Any) -> None:
        x, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(len(x), self.hparams["latent_dim"], device=x.device)

        self.toggle_optimizer(optimizer_g)
        g_loss = self.adversarial(self(z), real=True)
        optimizer_g.zero_grad()
        self.manual_backward(g_loss)
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        d_loss = (self.adversarial(x, True) + self.adversarial(self(z).detach(), False)) / 2
        optimizer_d.zero_grad()
        self.manual_backward(d_loss)
        optimizer_d.step()
        self.untoggle_optimizer(optimizer_d)

        self.log_dict({"d_loss": d_loss, "g_loss": g_loss}, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        for schedule in self.lr_schedulers():
            schedule.step()

    def distance(self, batch: Any) -> Tensor:
        made = self(self.validation_z.to(self.device))
        return (made.mean(dim=0) - batch[0].mean(dim=0)).norm()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_distance", self.distance(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_distance", self.distance(batch))

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.discriminator(batch[0])

    def configure_optimizers(self) -> Any:
        lr, betas = self.hparams["lr"], (self.hparams["b1"], 0.999)
        optimizers = [
            torch.optim.Adam(net.parameters(), lr=lr, betas=betas)
            for net in (self.generator, self.discriminator)
        ]
        return optimizers, [torch.optim.lr_scheduler.StepLR(o, 1, 0.9) for o in optimizers]
