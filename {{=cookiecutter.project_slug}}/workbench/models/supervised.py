"""Models that learn from inputs with a known answer: (x, y) batches."""

from typing import ClassVar, TypeGuard

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from .base import BaseModule
from .metric_names import logged_names
from .precision import EpochMean, at_least_float32, float32_by_default

Batch = tuple[Tensor, Tensor]
STAGES = ("train", "val", "test")


class SupervisedModule(BaseModule):
    """Training, validation and test of a network on (x, y) batches.

    A subclass sets the attributes below, saves its hyperparameters (`optimizer` and `scheduler`
    among them), builds `self.net`, calls `add_metrics`, and says how outputs become a loss and a
    prediction.

    Metrics are updated at every step, and logged once per epoch: `self.log` at every step costs
    about half of a fit of a small network.

    Attributes:
        net: the network.
        tasks: what the class can do: "classification", "multilabel", "regression".
        task: the one of them that the data ask for.
        output_names: one for each column of a prediction.
        target_names: one for each column of the targets; none for a classification.
    """

    net: nn.Module
    tasks: ClassVar[tuple[str, ...]]
    task: str
    output_names: list[str]
    target_names: list[str]

    def add_metrics(self, metrics: dict[str, Metric]) -> None:
        """Measure `metrics` and the mean loss in all three stages, as `<stage>/<name>`."""
        # A module cannot be called "train", which is a method.
        self.losses = nn.ModuleDict({f"{stage}_loss": EpochMean() for stage in STAGES})
        # Lightning computes each metric alone, so none may share its state with another.
        collection = MetricCollection(dict(metrics), compute_groups=False)
        self.metrics = nn.ModuleDict(
            {f"{stage}_metrics": collection.clone(prefix=f"{stage}/") for stage in STAGES}
        )

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs once per epoch, for example `val/loss`."""
        names = [f"{stage}/loss" for stage in STAGES]
        for collection in self.metrics.values():
            names += logged_names(collection, *self._made_up_samples())  # type: ignore[arg-type]
        return names

    def _made_up_samples(self) -> tuple[Tensor, Tensor]:
        """Predictions and targets of two samples, to try metrics with."""
        if self.task == "classification":
            targets = torch.arange(2, device=self.device)
            return torch.eye(2, len(self.output_names), device=self.device), targets
        shape = (len(self.target_names),) if len(self.target_names) > 1 else ()
        targets = torch.arange(2, device=self.device).view(2, *(1 for _ in shape))
        targets = targets.expand(2, *shape)
        return targets.float(), targets if self.task == "multilabel" else targets.float()

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""
        raise NotImplementedError

    def predict(self, outputs: Tensor) -> Tensor:
        """What the network's outputs say: probabilities or values, (B,) or (B, columns)."""
        raise NotImplementedError

    def point(self, predictions: Tensor) -> Tensor:
        """The one prediction for each target that metrics and plots are about."""
        return predictions

    def batch_weight(self, y: Tensor) -> float | Tensor:
        """The weight of a batch's loss in the mean over an epoch."""
        return len(y)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions for a batch of inputs of shape (B, *input_shape)."""
        return self.predict(at_least_float32(self.net(x)))

    def shared_step(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch; the stage's metrics are brought up to date on the way."""
        x, y = batch
        outputs, y = at_least_float32(self.net(x)), at_least_float32(y)
        with float32_by_default():
            loss = self.loss(outputs, y)
            self.losses[f"{stage}_loss"].update(loss, self.batch_weight(y))  # type: ignore[operator]
            predictions = self.point(self.predict(outputs.detach()))
            self.metrics[f"{stage}_metrics"].update(predictions, y)  # type: ignore[operator]
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimization step."""
        return self.shared_step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the validation part."""
        self.shared_step(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """One batch of the test part."""
        self.shared_step(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Predictions for one batch."""
        return self(batch[0])

    def in_target_unit(self, values: Tensor) -> Tensor:
        """Standardised targets or predictions in the target's own unit, as float64.

        Class numbers and probabilities stay as they are. Move the values to the CPU before: Apple's
        GPUs have no float64.
        """
        return values

    def log_metrics(self, stage: str) -> None:
        """Have Lightning compute, log and reset the metrics of a stage when its epoch ends.

        This is done when the epoch begins, so that callbacks have the values when it ends.
        """
        self.log(f"{stage}/loss", self.losses[f"{stage}_loss"])  # type: ignore[arg-type]
        for name, metric in self._metrics_of(stage).items():
            if not isinstance(metric, WrapperMetric):
                self.log(name, metric)

    def log_wrapped_metrics(self, stage: str) -> None:
        """Log the metrics that compute several values, which Lightning does not do alone."""
        wrapped = {n: m for n, m in self._metrics_of(stage).items() if isinstance(m, WrapperMetric)}
        if not wrapped:
            return
        values = self.metrics[f"{stage}_metrics"].compute()  # type: ignore[operator]
        single = self._metrics_of(stage).keys() - wrapped.keys()
        # compute() has already gathered all processes; sync_dist only tells Lightning so.
        self.log_dict({n: v for n, v in values.items() if n not in single}, sync_dist=True)
        for metric in wrapped.values():
            metric.reset()

    def _metrics_of(self, stage: str) -> dict[str, Metric]:
        return dict(self.metrics[f"{stage}_metrics"].items())  # type: ignore[operator]

    def on_train_start(self) -> None:
        """A run that is resumed within an epoch does not begin it again."""
        if self.trainer.fit_loop.restarted_mid_epoch:
            self.log_metrics("train")

    def on_train_epoch_start(self) -> None:
        """Log the metrics of an epoch of training."""
        self.log_metrics("train")

    def on_validation_epoch_start(self) -> None:
        """Log the metrics of a validation."""
        self.log_metrics("val")

    def on_test_epoch_start(self) -> None:
        """Log the metrics of a test."""
        self.log_metrics("test")

    def on_train_epoch_end(self) -> None:
        """Log what has several values."""
        self.log_wrapped_metrics("train")

    def on_validation_epoch_end(self) -> None:
        """Log what has several values."""
        self.log_wrapped_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log what has several values."""
        self.log_wrapped_metrics("test")


def judges_samples(model: LightningModule) -> TypeGuard[SupervisedModule]:
    """Whether a model predicts the target of each sample of (x, y) batches."""
    steps = ("shared_step", "predict_step")
    return isinstance(model, SupervisedModule) and all(
        getattr(type(model), step) is getattr(SupervisedModule, step) for step in steps
    )
