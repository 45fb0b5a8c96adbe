"""Models for the checks of a project's tests, most of them wired wrongly in one way."""

import numpy as np
import torch
from model_checks import ModelChecks
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.demos.boring_classes import BoringDataModuleNoLen, BoringModel
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Data(LightningDataModule):
    def loader(self):
        x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), batch_size=8)

    train_dataloader = val_dataloader = predict_dataloader = loader


class Right(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def predict_step(self, batch, batch_idx):
        return {"logits": self(batch[0])}

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class Checks(ModelChecks):
    model = Right

    def build(self):
        return self.model(), Data()


class TestRight(Checks):
    pass


class NotBuilt(Right):
    def __init__(self, width):
        super().__init__()


class TestNotBuilt(Checks):
    model = NotBuilt


class LeftOut(Right):
    def configure_optimizers(self):
        return torch.optim.Adam(self.net[2].parameters(), lr=1e-2)


class TestLeftOut(Checks):
    model = LeftOut


class Unsaved(Right):
    def __init__(self):
        super().__init__()
        self.scale = 1 + torch.rand(6)  # no buffer, so not in the checkpoint

    def forward(self, x):
        return self.net(x * self.scale)


class TestUnsaved(Checks):
    model = Unsaved


class Unlearnable(Right):
    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(torch.randn_like(batch[0])), batch[1])


class TestUnlearnable(Checks):
    model = Unlearnable


class Unseeded(Right):
    def forward(self, x):
        if self.training:
            x = x + 0.01 * torch.from_numpy(np.random.default_rng().normal(size=x.shape)).float()
        return self.net(x)


class TestUnseeded(Checks):
    model = Unseeded


class Normalized(Right):
    def __init__(self):
        super().__init__()
        self.net.insert(1, nn.BatchNorm1d(16))


class TestNormalized(Checks):
    model = Normalized


class Squeezed(Right):
    def predict_step(self, batch, batch_idx):
        first = self(batch[0]).argmax(dim=1).squeeze()
        return {"classes": list(first)}


class TestSqueezed(Checks):
    model = Squeezed


class SinglePrecision(Right):
    def forward(self, x):
        out = torch.zeros(len(x), 2)
        out[torch.arange(len(x))] = self.net(x)
        return out


class TestSinglePrecision(Checks):
    model = SinglePrecision


class NotCompilable(Right):
    def __init__(self):
        super().__init__()
        self.net.append(Doubled())


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x if torch.compiler.is_compiling() else x


class TestNotCompilable(Checks):
    model = NotCompilable


class Manual(Right):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))


class TestManual(Checks):
    model = Manual


class TestManualWithMetric(Checks):
    model = Manual
    overfit_metric = "loss"


class TestOwnLoaders(ModelChecks):
    test_overfits_one_batch = None  # the demo diverges

    def build(self):
        return BoringModel(), None


class TestIterable(ModelChecks):
    test_overfits_one_batch = None

    def build(self):
        return BoringModel(), BoringDataModuleNoLen()


class TrainOnly(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 2)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


class TestTrainOnly(Checks):
    model = TrainOnly


class TwoLoaders(Right):
    def training_step(self, batch, batch_idx):
        batch.pop("unlabelled")
        x, y = batch["labelled"]
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))


class TwoLoadersData(Data):
    def train_dataloader(self):
        return {"labelled": self.loader(), "unlabelled": self.loader()}


class TestTwoLoaders(ModelChecks):
    def build(self):
        return TwoLoaders(), TwoLoadersData()
