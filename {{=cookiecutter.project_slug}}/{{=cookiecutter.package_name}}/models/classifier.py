"""Classification of images or table rows: one class per sample, or any number of labels."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from workbench.models.by_name import Loss, Net, build_loss, build_net, parts_of
from workbench.models.metrics import Spec, classification_metrics
from workbench.models.supervised import SupervisedModule, check_task

from .losses import LOSSES, ClassLoss
from .nets import NETS


class Classifier(SupervisedModule):
    """A network with one logit per class, trained by cross-entropy.

    With the task "multilabel", each class is a label that applies or not.

    The arguments up to `metrics` come from the configs, the others from the datamodule.

    Args:
        net: `name` and options of a network in `nets/`, or a network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        loss: `name` and options of a loss in `losses.py`, or a loss; None for the default.
        metrics: names, or dictionaries of `name` and options, of torchmetrics; None for accuracy
            and F1.
        input_shape: shape of one sample, (C, H, W) or (num_features,).
        num_classes: number of classes or labels.
        class_names: their names, in the order of the class indices; None for the indices.
        class_counts: training samples of each class, or [without, with] of each label.
        task: "classification" or "multilabel".
        preprocessing: how a raw image or table row becomes an input.

    Raises:
        UserError: another task, or a network, loss or metric that does not exist.
    """

    tasks = ("classification", "multilabel")

    def __init__(
        self,
        net: Net,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        input_shape: Sequence[int],
        num_classes: int,
        loss: Loss | None = None,
        metrics: Sequence[Spec] | None = None,
        class_names: Sequence[str] | None = None,
        class_counts: Sequence[Any] | None = None,
        task: str = "classification",
        preprocessing: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_task(type(self), task)
        self.save_hyperparameters(ignore=parts_of(net=net, loss=loss), logger=False)
        self.task = task
        self.class_names = [str(name) for name in class_names or range(num_classes)]
        self.output_names = self.class_names
        self.target_names = self.class_names if task == "multilabel" else []
        self.net = build_net(NETS, net, input_shape, num_classes, preprocessing)
        self.loss_function = build_loss(LOSSES, loss, task, num_classes, class_counts)
        self.add_metrics(classification_metrics(metrics, task, self.class_names))

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Mean loss in nats; outputs (B, C), y (B,) of class indices or (B, C) of 0 and 1."""
        loss: Tensor = self.loss_function(outputs, y)
        return loss

    def batch_weight(self, y: Tensor) -> float | Tensor:
        """The number of samples, or with class weights the sum of their weights."""
        loss = self.loss_function
        return loss.batch_weight(y) if isinstance(loss, ClassLoss) else len(y)

    def predict(self, outputs: Tensor) -> Tensor:
        """Probabilities of the classes or of each label, (B, C)."""
        return outputs.sigmoid() if self.task == "multilabel" else outputs.softmax(dim=-1)
