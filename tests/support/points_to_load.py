"""A user's file, beside train.py."""

from dataclasses import dataclass

import torch
from loading.models import Classifier
from pytorch_lightning import LightningDataModule, LightningModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset


class Points(Dataset):
    """40 points in the plane, of three classes."""

    def __init__(self, seed, form="pair"):
        random = torch.Generator().manual_seed(seed)
        self.x = torch.randn(40, 2, generator=random)
        self.y = (self.x[:, 0] > 0).long() + (self.x[:, 1] > 0).long()
        self.form = form

    def __len__(self):
        return 40

    def __getitem__(self, place):
        if self.form == "pair":
            return self.x[place], self.y[place]
        return {"id": f"point, {place}", "x": self.x[place], "y": self.y[place]}


class PointData(LightningDataModule):
    def __init__(self, form="pair", tests=1):
        super().__init__()
        self.form, self.tests = form, tests

    def setup(self, stage):
        self.train, self.val = Points(0, self.form), Points(1, self.form)
        if stage == "test":
            self.test = [Points(2 + number, self.form) for number in range(self.tests)]

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=16, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=16)

    def test_dataloader(self):
        loaders = [DataLoader(part, batch_size=16) for part in self.test]
        return loaders if self.tests > 1 else loaders[0]


class WithPredictLoader(PointData):
    num_classes = 3

    def predict_dataloader(self):
        return DataLoader(Points(9, self.form), batch_size=16)


class Vocabulary:
    """No checkpoint can hold it."""

    size = 3


class WithVocabulary(PointData):
    input_shape, num_classes, vocabulary = (2,), 3, Vocabulary()


class TrainOnly(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Points(0), batch_size=16)


class Steps(LightningModule):
    """As in a tutorial: no predict_step."""

    def forward(self, x):
        return self.layer(x)

    def step(self, batch, stage):
        x, y = batch if isinstance(batch, list) else (batch["x"], batch["y"])
        scores = self(x)
        self.log(f"{stage}_acc", (scores.argmax(1) == y).float().mean(), batch_size=len(y))
        loss = F.cross_entropy(scores, y)
        self.log(f"{stage}-loss", loss, batch_size=len(y))
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.step(batch, "val")

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.step(batch, "test")

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Tutorial(Steps):
    def __init__(self, lr=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.lr)


class Untested(Tutorial):
    test_step = LightningModule.test_step


class Noisy(Tutorial):
    """Its test draws random numbers."""

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.step([x + torch.randn_like(x), y], "test")


class Answer(Tutorial):
    """Rows of many kinds, strings among them."""

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        scores = self(batch["x"])
        return {"id": batch["id"], "best": scores.argmax(1), "scores": scores.double()}


@dataclass
class Box:
    corners: torch.Tensor
    name: str


class Boxes(Tutorial):
    """No rows."""

    def predict_step(self, batch, batch_idx):
        return [Box(self(batch[0][:2]), "first"), Box(self(batch[0]), "all")]


class Given(Steps):
    """A network and an optimizer by config, as in many templates."""

    def __init__(self, net, optimizer, num_classes=0):
        super().__init__()
        self.save_hyperparameters()
        self.layer = net
        self.num_classes = num_classes

    def configure_optimizers(self):
        return self.hparams.optimizer(params=self.parameters())


class Told(Steps):
    """Asks the data for an object."""

    def __init__(self, vocabulary):
        super().__init__()
        self.layer = nn.Linear(2, vocabulary.size)


class Named(Classifier):
    """The project's own model with predictions of another form."""

    def predict_step(self, batch, batch_idx):
        return {"best": self(batch[0]).argmax(1).tolist()}


class Late(Steps):
    """Makes its layers once it has a trainer."""

    def __init__(self):
        super().__init__()
        self.layer = None

    def setup(self, stage):
        self.layer = nn.Linear(2, 3)
