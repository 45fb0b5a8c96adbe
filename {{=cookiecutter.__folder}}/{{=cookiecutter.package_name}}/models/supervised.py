"""Models that learn from inputs with a known answer: (x, y) batches."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from .base import BaseModule
from .metric_names import logged_names
from .precision import at_least_float32, float32_by_default

Batch = tuple[Tensor, Tensor]
STAGES = ("train", "val", "test")


class SupervisedModule(BaseModule):
    """Training, validation and test of a network on (x, y) batches.

    A subclass sets `task`, saves its hyperparameters (`optimizer` and `scheduler` among them),
    builds `self.net`, calls `add_metrics`, and says how outputs become a loss and a prediction.
    """

    task: str

    def add_metrics(self, metrics: dict[str, Metric]) -> None:
        """Measure `metrics` and the mean loss in all three stages, as `<stage>/<name>`."""
        self.add_means(*(f"{stage}/loss" for stage in STAGES))
        collection = MetricCollection(dict(metrics))
        self.metrics = nn.ModuleDict(
            {f"{s}_metrics": collection.clone(prefix=f"{s}/") for s in STAGES}
        )

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs once per epoch, for example `val/loss`."""
        names = super().metric_names
        for collection in self.metrics.values():
            names += logged_names(collection, *self._made_up_samples())  # type: ignore[arg-type]
        return names

    def _made_up_samples(self) -> tuple[Tensor, Tensor]:
        """Predictions and targets of two samples, to try metrics with."""
        targets = torch.arange(2, device=self.device)
        if self.task == "regression":
            return targets.float(), targets.float()
        return torch.eye(2, self.hparams["num_classes"], device=self.device), targets

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""
        raise NotImplementedError

    def predict(self, outputs: Tensor) -> Tensor:
        """What the network's outputs say, in the form of the metrics: probabilities or values."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Predictions for a batch of inputs of shape (B, *input_shape)."""
        return self.predict(at_least_float32(self.net(x)))

    def shared_step(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch; the stage's metrics are brought up to date on the way."""
        x, y = batch
        outputs, y = at_least_float32(self.net(x)), at_least_float32(y)
        with float32_by_default():
            loss = self.loss(outputs, y)
            self.measure(f"{stage}/loss", loss, len(y))
            self.metrics[f"{stage}_metrics"].update(self.predict(outputs.detach()), y)  # type: ignore[operator]
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One optimisation step."""
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
        if self.task != "regression":
            return values
        values = values.double()
        # Tensors, because an exported model keeps plain numbers in 32 bits.
        std, mean = (
            values.new_tensor(self.hparams[name]) for name in ("target_std", "target_mean")
        )
        return values * std + mean

    def epoch_values(self, stage: str) -> dict[str, Tensor]:
        """The loss and the metrics of a stage's epoch; they start anew."""
        metrics = self.metrics[f"{stage}_metrics"]
        values = super().epoch_values(stage) | metrics.compute()  # type: ignore[operator]
        metrics.reset()  # type: ignore[operator]
        return values
