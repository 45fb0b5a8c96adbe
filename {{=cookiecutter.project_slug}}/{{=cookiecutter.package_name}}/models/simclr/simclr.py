"""SimCLR: image features learnt without labels."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import UserError
from workbench.models.base import BaseModule
from workbench.models.by_name import Net, build_net, parts_of
from workbench.models.precision import EpochMean, at_least_float32

from ..nets import NETS
from .probe import LinearProbe
from .views import RandomView

Batch = tuple[Tensor, Tensor]


class SimCLR(BaseModule):
    """An encoder that maps two random views of an image to similar features.

    Chen et al. 2020, https://arxiv.org/abs/2002.05709

    Labels are not used for training. They measure the features: each validation fits a linear
    classifier to features of the training split and logs its accuracy as `val/probe_acc`. The
    classifier is saved with the encoder, so that the test needs no training data.

    Args:
        net: `name` and options of a network in `nets/`, or a network: the encoder.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        views: options of `RandomView`.
        features: width of the encoder's output.
        projection: width of the projection that the loss compares.
        temperature: of the loss; lower values emphasise the most similar images.
        probe_samples: maximum number of training samples for the linear classifier.
        input_shape: shape of an image, (C, H, W).
        num_classes: number of classes.
    """

    smallest_batch = 2  # with a single image there are no negatives and the loss is zero

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
            raise UserError("SimCLR needs images, and these data are a table.")
        self.net = build_net(NETS, net, input_shape, features)
        # The loss compares projections, so that features can keep what the views differ in.
        self.head = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection)
        )
        self.view = RandomView(**views)
        self.probe = LinearProbe(features, num_classes)
        self.train_loss = EpochMean()
        self.val_loss, self.val_probe_acc = EpochMean(), EpochMean()
        self.test_loss, self.test_probe_acc = EpochMean(), EpochMean()

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, features) of images x (B, C, H, W)."""
        return self.net(x)

    def loss(self, x: Tensor, random: torch.Generator | None = None) -> Tensor:
        """The contrastive loss of two views of each image, a scalar in nats."""
        views = torch.cat([self.view(x, random), self.view(x, random)])
        return nt_xent(self.head(self.net(views)), self.hparams["temperature"])

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimization step."""
        x, _ = batch
        loss = self.loss(x)
        self.train_loss.update(loss, len(x))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the validation split."""
        self.judge(batch, batch_idx, self.val_loss, self.val_probe_acc)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test split."""
        self.judge(batch, batch_idx, self.test_loss, self.test_probe_acc)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Features of one batch."""
        return self(batch[0])

    def judge(self, batch: Batch, batch_idx: int, loss: EpochMean, probe_acc: EpochMean) -> None:
        """Measure loss and probe accuracy on a batch."""
        x, y = batch
        # The same views in every epoch, so that losses are comparable.
        random = torch.Generator(x.device).manual_seed(batch_idx)
        # The last batch may be a single image.
        if len(x) >= self.smallest_batch:
            loss.update(self.loss(x, random), len(x))
        right = self.probe(self(x)).argmax(dim=1) == y
        probe_acc.update(right.float().mean(), len(x))

    def on_train_start(self) -> None:
        """Log the metric of an epoch that a resumed run continues rather than starts."""
        if self.trainer.fit_loop.restarted_mid_epoch:
            self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Have Lightning compute, log and reset the metric when the epoch ends."""
        self.log("train/loss", self.train_loss)

    def on_validation_epoch_start(self) -> None:
        """Fit the probe and log the metrics; `evaluate.py` uses the probe in the checkpoint."""
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
        """Fit the linear classifier to features of the training split."""
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
    """Cross-entropy of finding the other view of an image among all other views of the batch.

    Args:
        z: projections (2 B, P): the first views of all images, then the second views.
        temperature: divides the cosine similarities.
    """
    z = F.normalize(at_least_float32(z), dim=1)
    similarity = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    partner = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return F.cross_entropy(similarity.masked_fill(itself, float("-inf")), partner)
