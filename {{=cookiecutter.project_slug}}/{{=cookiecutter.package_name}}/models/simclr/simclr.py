"""SimCLR: features of pictures, learnt without labels."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import UserError
from workbench.models.base import BaseModule
from workbench.models.precision import EpochMean, at_least_float32

from ..nets import Net, build_net, parts_of
from .probe import LinearProbe
from .views import RandomView

Batch = tuple[Tensor, Tensor]


class SimCLR(BaseModule):
    """An encoder that gives two random views of a picture similar features.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709

    The labels play no part in training. They tell how good the features are: once per validation
    a linear classifier is fitted to features of the training part, and `val/probe_acc` is its
    accuracy. It is saved with the encoder, so that the test needs no training data.

    Args:
        net: `name` and options of the encoder, or a network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        views: options of `RandomView`.
        features: width of the encoder's output.
        projection: width in which features are compared.
        temperature: of the loss; a lower one looks at the most similar pictures more.
        probe_samples: so many samples of the training part, at most, fit the linear classifier.
        input_shape: shape of a picture (C, H, W).
        num_classes: number of classes.
    """

    smallest_batch = 2  # the loss of a single image is zero: nothing to tell it from

    def __init__(
        self,
        net: Net,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        views: dict[str, float],
        features: int,
        projection: int,
        temperature: float,
        probe_samples: int,
        input_shape: list[int],
        num_classes: int,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=parts_of(net=net), logger=False)
        if len(input_shape) != 3:
            raise UserError("SimCLR compares views of pictures, and these data are a table.")
        self.net = build_net(net, input_shape, features)
        # Compared behind a small head, so that the features may keep what the views differ in.
        self.head = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection)
        )
        self.view = RandomView(**views)
        self.probe = LinearProbe(features, num_classes)
        self.train_loss = EpochMean()
        self.val_loss, self.val_probe_acc = EpochMean(), EpochMean()
        self.test_loss, self.test_probe_acc = EpochMean(), EpochMean()

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, features) of pictures x (B, C, H, W)."""
        return self.net(x)

    def loss(self, x: Tensor, random: torch.Generator | None = None) -> Tensor:
        """The contrastive loss of two views of each picture, a scalar in nats."""
        views = torch.cat([self.view(x, random), self.view(x, random)])
        return nt_xent(self.head(self.net(views)), self.hparams["temperature"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimisation step."""
        x, _ = batch
        loss = self.loss(x)
        self.train_loss.update(loss, len(x))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the validation part."""
        self.judge(batch, batch_idx, self.val_loss, self.val_probe_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test part."""
        self.judge(batch, batch_idx, self.test_loss, self.test_probe_acc)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Features of one batch."""
        return self(batch[0])

    def judge(self, batch: Batch, batch_idx: int, loss: EpochMean, probe_acc: EpochMean) -> None:
        """Measure loss and probe accuracy on a batch."""
        x, y = batch
        # The same views every time, so that the losses of epochs can be compared.
        random = torch.Generator(x.device).manual_seed(batch_idx)
        # The last batch may be a single image.
        if len(x) >= self.smallest_batch:
            loss.update(self.loss(x, random), len(x))
        right = self.probe(self(x)).argmax(dim=1) == y
        probe_acc.update(right.float().mean(), len(x))

    def on_train_start(self) -> None:
        """A run that is resumed within an epoch does not begin it again."""
        if self.trainer.fit_loop.restarted_mid_epoch:
            self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Have Lightning compute, log and reset the metric when the epoch ends."""
        self.log("train/loss", self.train_loss)

    def on_validation_epoch_start(self) -> None:
        """Fit the probe and log the metrics; `evaluate.py` takes the probe in the checkpoint."""
        if self.trainer.state.fn == "fit":
            self.fit_probe()
        self.log_dict({"val/loss": self.val_loss, "val/probe_acc": self.val_probe_acc})

    def on_test_epoch_start(self) -> None:
        """Log the metrics."""
        self.log_dict({"test/loss": self.test_loss, "test/probe_acc": self.test_probe_acc})

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs."""
        return ["train/loss", "val/loss", "val/probe_acc", "test/loss", "test/probe_acc"]

    def fit_probe(self) -> None:
        """Fit the linear classifier to features of the training part."""
        features, labels, count = [], [], 0
        precision, strategy = self.trainer.precision_plugin, self.trainer.strategy
        with precision.val_step_context():
            for batch in self.trainer.datamodule.train_dataloader():
                x, y = strategy.batch_to_device(precision.convert_input(batch))
                features.append(self(x))
                labels.append(y)
                count += len(y)
                if count >= self.hparams["probe_samples"]:
                    break
        self.probe.fit(torch.cat(features), torch.cat(labels))


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding the other view of a picture among all other views of the batch.

    Args:
        z: projected features (2 B, P): the first views of all pictures, then the second.
        temperature: the cosines are divided by it.
    """
    z = F.normalize(at_least_float32(z), dim=1)
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similarity.masked_fill(itself, float("-inf")), partner)
