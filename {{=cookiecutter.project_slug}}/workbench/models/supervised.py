"""Models that learn from labelled samples: batches (x, y), or dictionaries with a `label`."""

import logging
from collections.abc import Mapping
from typing import Any, ClassVar, TypeGuard

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.wrappers.abstract import WrapperMetric

from ..data.batches import inputs_and_targets
from ..errors import UserError
from .epoch_logging import STAGES, SharedStep
from .metrics import logged_names
from .precision import EpochMean, at_least_float32, float32_by_default
from .regression_metrics import R2

log = logging.getLogger(__name__)

# A tensor, or the arguments of a network that takes several.
Inputs = Tensor | Mapping[str, Tensor]
Batch = tuple[Tensor, Tensor] | Mapping[str, Tensor]
# A config in `configs/model/` for the tasks that most models do not support, and for texts.
EXAMPLES = {"regression": "mlp_regressor", "text": "gpt"}
TEXT_EXAMPLES = {"regression": "text_regressor"}


class SupervisedModule(SharedStep):
    """Training, validation and test of a network on (x, y) batches.

    A batch may also be a dictionary with the targets as `label`. Its other entries are the
    arguments of the network: `net(input_ids=..., attention_mask=...)`.

    A subclass sets the attributes below, saves its hyperparameters (including `optimizer` and
    `scheduler`), calls `add_metrics`, and defines `loss` and `predict`.

    Metrics are updated in every step but logged once per epoch, because `self.log` in every step
    takes about half of the training time of a small network.

    Attributes:
        net: the network.
        tasks: those that the class supports, of "classification", "multilabel" and "regression".
        task: that of the data.
        output_names: one per column of a prediction.
        target_names: one per column of the targets; empty for a classification.
    """

    net: nn.Module
    tasks: ClassVar[tuple[str, ...]]
    task: str
    output_names: list[str]
    target_names: list[str]

    def add_metrics(self, metrics: dict[str, Metric]) -> None:
        """Log `metrics` and the mean loss of all stages as `<stage>/<name>`."""
        self._undefined: set[str] = set()
        # A submodule cannot be called "train", which is a method.
        self.losses = nn.ModuleDict({f"{stage}_loss": EpochMean() for stage in STAGES})
        # Lightning computes the metrics one by one, so that they cannot share states.
        collection = MetricCollection(dict(metrics), compute_groups=False)
        self.metrics = nn.ModuleDict(
            {f"{stage}_metrics": collection.clone(prefix=f"{stage}/") for stage in STAGES}
        )

    @property
    def metric_names(self) -> list[str]:
        """Every name that is logged once per epoch, for example `val/loss`."""
        names = [f"{stage}/loss" for stage in STAGES]
        for collection in self.metrics.values():
            names += logged_names(collection, *self._made_up_samples())  # type: ignore[arg-type]
        return names

    def _made_up_samples(self) -> tuple[Tensor, Tensor]:
        """Predictions and targets of two samples, to try the metrics."""
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
        """Predictions from the network's outputs: probabilities or values, (B,) or (B, columns)."""
        raise NotImplementedError

    def point(self, predictions: Tensor) -> Tensor:
        """The prediction for each target that metrics and plots use."""
        return predictions

    def batch_weight(self, y: Tensor) -> float | Tensor:
        """The weight of a batch's loss in the mean over an epoch."""
        return len(y)

    def hard_targets(self, y: Tensor) -> Tensor:
        """Targets for the metrics: of labels that MixUp or CutMix mixed, the prevailing ones."""
        if self.task == "classification" and y.is_floating_point():
            return y.argmax(dim=1)
        return y.round() if self.task == "multilabel" else y

    def run_net(self, x: Inputs) -> Tensor:
        """The network's outputs for a batch of inputs."""
        outputs: Tensor = self.net(**x) if isinstance(x, Mapping) else self.net(x)
        return at_least_float32(outputs)

    def forward(self, x: Inputs) -> Tensor:
        """Predictions for a batch of inputs of shape (B, *input_shape)."""
        return self.predict(self.run_net(x))

    def shared_step(self, batch: Batch, stage: str) -> Tensor:
        """Loss of a batch; also updates the metrics of the stage."""
        x, y = inputs_and_targets(batch)
        outputs, y = self.run_net(x), at_least_float32(y)
        with float32_by_default():
            loss = self.loss(outputs, y)
            self.losses[f"{stage}_loss"].update(loss, self.batch_weight(y))  # type: ignore[operator]
            predictions = self.point(self.predict(outputs.detach()))
            self.metrics[f"{stage}_metrics"].update(predictions, self.hard_targets(y))  # type: ignore[operator]
        return loss

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Predictions for one batch."""
        return self(inputs_and_targets(batch)[0] if isinstance(batch, Mapping) else batch[0])

    def in_target_unit(self, values: Tensor) -> Tensor:
        """Standardised targets or predictions in the target's own unit, as float64.

        Class indices and probabilities are returned unchanged. Move the values to the CPU first:
        Apple GPUs have no float64.
        """
        return values

    def log_metrics(self, stage: str) -> None:
        """Have Lightning compute, log and reset the metrics of a stage when its epoch ends.

        Called when the epoch begins, so that callbacks have the values when it ends.
        """
        self.log(f"{stage}/loss", self.losses[f"{stage}_loss"])
        for name, metric in self._metrics_of(stage).items():
            if not isinstance(metric, WrapperMetric):
                self.log(name, metric)

    def log_wrapped_metrics(self, stage: str) -> None:
        """Log the metrics that compute several values, which Lightning does not do by itself."""
        wrapped = {n: m for n, m in self._metrics_of(stage).items() if isinstance(m, WrapperMetric)}
        if not wrapped:
            return
        values = self.metrics[f"{stage}_metrics"].compute()  # type: ignore[operator]
        single = self._metrics_of(stage).keys() - wrapped.keys()
        # compute() has already gathered all processes; sync_dist only tells Lightning so.
        self.log_dict({n: v for n, v in values.items() if n not in single}, sync_dist=True)
        for metric in wrapped.values():
            metric.reset()

    def report_undefined(self, stage: str) -> None:
        """Log once that an R2 is undefined and therefore left out.

        Raises:
            UserError: a callback monitors it.
        """
        r2 = {n: m for n, m in self._metrics_of(stage).items() if isinstance(m, R2)}
        for name in sorted(r2.keys() - self._undefined):
            if r2[name].compute() is not None:
                continue
            self._undefined.add(name)
            reason = f"{name} is undefined for fewer than two different targets"
            callbacks = self.trainer.callbacks
            if any(getattr(callback, "monitor", None) == name for callback in callbacks):
                raise UserError(
                    f"{reason}, so it cannot be the objective: choose a larger split or "
                    "objective.metric=val/loss."
                )
            log.warning("%s and is left out", reason)

    def end_stage(self, stage: str) -> None:
        """Log and report what Lightning does not at the end of an epoch of a stage."""
        self.log_wrapped_metrics(stage)
        # The sanity check before training sees only a part of the split.
        if not self.trainer.sanity_checking:
            self.report_undefined(stage)

    def _metrics_of(self, stage: str) -> dict[str, Metric]:
        return dict(self.metrics[f"{stage}_metrics"].items())  # type: ignore[operator]

    def on_train_epoch_end(self) -> None:
        """Log and report the remaining metrics."""
        self.end_stage("train")

    def on_validation_epoch_end(self) -> None:
        """Log and report the remaining metrics."""
        self.end_stage("val")

    def on_test_epoch_end(self) -> None:
        """Log and report the remaining metrics."""
        self.end_stage("test")


def check_task(model_class: Any, task: str | None, is_text: bool = False) -> None:
    """Reject data of a task that a model does not support, if both name their tasks.

    Args:
        model_class: of the model.
        task: of the data.
        is_text: whether the samples are labelled texts.

    Raises:
        UserError: for example, a regressor was chosen for classes.
    """
    tasks = getattr(model_class, "tasks", None)
    if tasks and task and task not in tasks:
        examples, usual = (TEXT_EXAMPLES, "text_encoder") if is_text else (EXAMPLES, "mlp")
        raise UserError(
            f"The data are a {task} task and {model_class.__name__} does {tasks[0]}: choose "
            f"another model group, for example model={examples.get(task, usual)}."
        )


def judges_samples(model: LightningModule) -> TypeGuard[SupervisedModule]:
    """Whether a model predicts the target of each sample in (x, y) batches."""
    steps = ("shared_step", "predict_step")
    return isinstance(model, SupervisedModule) and all(
        getattr(type(model), step) is getattr(SupervisedModule, step) for step in steps
    )
