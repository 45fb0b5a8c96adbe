"""What the supervised models share: steps, metrics, optimizer and schedule."""

import math
from typing import Any

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torchmetrics import MeanMetric, Metric, MetricCollection

from ..errors import UserError
from .optimizers import build_optimizer
from .schedulers import WITH_HORIZON, Horizon, build_scheduler

Batch = tuple[Tensor, Tensor]
STAGES = ("train", "val", "test")


class SupervisedModule(LightningModule):
    """Training, validation and test of a network on (x, y) batches.

    A subclass sets `task`, saves its hyperparameters (`optimizer` and `scheduler` among them),
    builds `self.net`, calls `add_metrics`, and says how outputs become a loss and a prediction.

    Metrics are updated at every step and computed and logged once per epoch: logging at every
    step costs about half of a fit of a small network.
    """

    task: str
    net: nn.Module

    def add_metrics(self, metrics: dict[str, Metric]) -> None:
        """Measure `metrics` and the mean loss in all three stages, as `<stage>/<name>`."""
        collection = MetricCollection(dict(metrics))
        self.metrics = nn.ModuleDict(
            {f"{s}_metrics": collection.clone(prefix=f"{s}/") for s in STAGES}
        )
        self.losses = nn.ModuleDict({f"{stage}_loss": MeanMetric() for stage in STAGES})

    @property
    def metric_names(self) -> list[str]:
        """Every name this model logs once per epoch, for example `val/loss`."""
        names = [f"{stage}/loss" for stage in STAGES]
        for collection in self.metrics.values():
            names += list(collection.keys())  # type: ignore[operator]
        return names

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss of a batch, a scalar."""
        raise NotImplementedError

    def predict(self, outputs: Tensor) -> Tensor:
        """What the network's outputs say, in the form that the metrics and `predict.py` take."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Predictions for a batch of inputs of shape (B, *input_shape)."""
        return self.predict(self.net(x))

    def shared_step(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch; the stage's metrics are brought up to date on the way."""
        x, y = batch
        outputs = self.net(x)
        loss = self.loss(outputs, y)
        self.losses[f"{stage}_loss"].update(loss.detach(), weight=len(y))  # type: ignore[operator]
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

    def on_train_epoch_end(self) -> None:
        """Log the means over the epoch."""
        self.log_epoch("train")

    def on_validation_epoch_end(self) -> None:
        """Log the means over the validation part."""
        self.log_epoch("val")

    def on_test_epoch_end(self) -> None:
        """Log the means over the test part."""
        self.log_epoch("test")

    def log_epoch(self, stage: str) -> None:
        """Compute, log and reset the metrics of a stage."""
        loss, metrics = self.losses[f"{stage}_loss"], self.metrics[f"{stage}_metrics"]
        values = {f"{stage}/loss": loss.compute(), **metrics.compute()}  # type: ignore[operator]
        # compute() has already gathered all processes; sync_dist only tells Lightning so.
        self.log_dict(values, sync_dist=True)
        loss.reset()  # type: ignore[operator]
        metrics.reset()  # type: ignore[operator]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule from their configs.

        Raises:
            UserError: a resumed run is longer or shorter than its schedule was made for.
        """
        horizon = self._horizon()
        self._check_horizon(horizon)
        optimizer = build_optimizer(self.hparams["optimizer"], self.net.parameters())
        schedule = build_scheduler(self.hparams["scheduler"], optimizer, horizon)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _horizon(self) -> Horizon:
        # The number of batches is only known once the loaders are there.
        self.trainer.fit_loop.setup_data()
        total = self.trainer.estimated_stepping_batches
        per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return Horizon(total, math.ceil(per_epoch))

    def _check_horizon(self, horizon: Horizon) -> None:
        name, planned = self.hparams["scheduler"].get("name"), self._planned_steps
        resumed = self.trainer.ckpt_path is not None and planned is not None
        if name in WITH_HORIZON and resumed and planned != horizon.total:
            raise UserError(
                f"The {name} schedule of the checkpoint was made for {planned} steps and this run "
                f"has {horizon.total}: give the trainer.max_epochs and data.batch_size of the "
                "first run, or start a new run without ckpt_path."
            )
        self._planned_steps = None if math.isinf(horizon.total) else int(horizon.total)

    _planned_steps: int | None = None
    _missed_plateau_step: float | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note in the checkpoint which model it is and where its schedule stands."""
        # Relative to the package, so that the checkpoint outlives a renamed project.
        module = type(self).__module__.partition(".")[2]
        checkpoint["model_class"] = f"{module}:{type(self).__name__}"
        checkpoint["planned_steps"] = self._planned_steps
        monitored = self.trainer.callback_metrics.get(self.hparams["scheduler"].get("monitor"))
        checkpoint["monitored"] = None if monitored is None else float(monitored)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how long the schedule was meant to last, and a step it still has to make."""
        self._planned_steps = checkpoint.get("planned_steps")
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if epochs["processed"] > epochs["completed"]:
            self._missed_plateau_step = checkpoint.get("monitored")

    def on_train_start(self) -> None:
        """Make the plateau schedule's step of the epoch that a resumed checkpoint was saved in.

        Lightning saves before that step, and after a resume no longer has the metric for it.
        """
        schedule = self.lr_schedulers()
        if isinstance(schedule, ReduceLROnPlateau) and self._missed_plateau_step is not None:
            schedule.step(self._missed_plateau_step)
        self._missed_plateau_step = None
