"""A model and data that know nothing of the project, for sweeps over their own options."""

from ..conftest import Bake, BakedProject

MODULE = "modules_of_sweep_tests"
PACKAGE = "package_of_own_module_tests"
# 160 samples in batches of 20: an epoch has 8 batches.
MODULES = '''
"""A model and data that know nothing of this project."""

import time

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

SEEN = []


class Lit(pl.LightningModule):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(4, 1)

    def loss(self, batch):
        x, y = batch
        return F.mse_loss(self.layer(x), y)

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)


class Data(pl.LightningDataModule):
    def setup(self, stage):
        x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
        y = x.sum(1, keepdim=True)
        self.train, self.val = TensorDataset(x[:160], y[:160]), TensorDataset(x[160:], y[160:])

    def train_dataloader(self):
        return DataLoader(self.train, 20, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, 20)


class NotValidated(Data):
    val_dataloader = pl.LightningDataModule.val_dataloader


class Endless(IterableDataset):
    def __iter__(self):
        generator = torch.Generator().manual_seed(0)
        while True:
            x = torch.randn(4, generator=generator)
            yield x, x.sum(0, keepdim=True)


class Stream(Data):
    def train_dataloader(self):
        return DataLoader(Endless(), 20)


class TwoSplits(Data):
    def val_dataloader(self):
        return [DataLoader(self.val, 20), DataLoader(self.train, 20)]


class Several(Lit):
    """Logs under names of all kinds, and what it logs for a step and for an epoch."""

    def __init__(self, lr=0.1, net=None):
        super().__init__(lr)

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self.loss(batch))
        if dataloader_idx == 0:
            self.log("error (a, b) = 50% <i>", self.loss(batch), add_dataloader_idx=False)

    def on_train_epoch_end(self):
        self.log("rate", self.hparams.lr)


class Silent(Lit):
    """Logs nothing."""

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        pass


class Broken(Lit):
    def validation_step(self, batch, batch_idx):
        raise ZeroDivisionError("mine")


class Warm(Lit):
    """A schedule that is computed from the number of steps."""

    def configure_optimizers(self):
        steps = self.trainer.estimated_stepping_batches
        optimizer = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / (steps // 10))
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class Logs(pl.Callback):
    """A callback that measures something."""

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("from_callback", 1.0)


class Fails(pl.Callback):
    """A callback that needs a whole training."""

    def on_train_end(self, trainer, pl_module):
        raise RuntimeError(trainer.checkpoint_callback.best_model_path)


class Slow(pl.Callback):
    """A callback that takes its time."""

    def on_validation_end(self, trainer, pl_module):
        time.sleep(1)


class Witness(pl.Callback):
    """Notes what Lightning itself says after every validation."""

    def __init__(self):
        SEEN.clear()

    def on_validation_end(self, trainer, pl_module):
        SEEN.append((trainer.global_step, float(trainer.callback_metrics["val_loss"])))
'''

MODELS = {
    "Lit": "lr: 0.1\n",
    "Several": "lr: 0.1\nnet: {width: 8}\n",
    "Silent": "lr: 0.1\n",
    "Broken": "lr: 0.1\n",
    "Warm": "lr: 0.1\n",
}
# A run of these, but for the objective and the length.
PLAIN = (
    "experiment=plain",
    "model=lit",
    "data=data",
    "trainer=cpu",
    "logger=none",
    "callbacks.early_stopping=null",
)


def bake_with_modules(bake: Bake) -> BakedProject:
    """A project with these modules, and one config file for each."""
    project = bake(project_name="Own modules", package_name=PACKAGE)
    root = project.root
    (root / f"{MODULE}.py").write_text(MODULES)
    (root / "configs" / "experiment" / "plain.yaml").write_text("# @package _global_\n")
    for name, options in MODELS.items():
        path = root / "configs" / "model" / f"{name.lower()}.yaml"
        path.write_text(f"_target_: {MODULE}.{name}\n{options}")
    for name in ("Data", "NotValidated", "Stream", "TwoSplits"):
        path = root / "configs" / "data" / f"{name.lower()}.yaml"
        path.write_text(f"_target_: {MODULE}.{name}\n")
    return project
