"""Classification of images or table rows."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from .nets import build_net
from .supervised import SupervisedModule


class Classifier(SupervisedModule):
    """A network with one logit per class, trained by cross-entropy.

    The first three arguments come from the configs, the others from the datamodule. All are plain
    values, so `Classifier.load_from_checkpoint(path)` needs nothing else.

    Args:
        net: `name` and options of the network.
        optimizer: `name` and options of the optimizer.
        scheduler: `name` and options of the learning-rate schedule.
        input_shape: shape of one sample, (C, H, W) or (num_features,).
        num_classes: number of classes.
        class_names: their names, in the order of the labels.
        preprocessing: how a raw picture or table row becomes an input.
    """

    task = "classification"

    def __init__(
        self,
        net: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        input_shape: list[int],
        num_classes: int,
        class_names: list[str],
        preprocessing: dict[str, Any],
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.net = build_net(net, input_shape, num_classes)
        self.add_metrics(
            {
                # Checking the labels at every step would wait for the GPU at every step.
                "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
                "f1": MulticlassF1Score(num_classes, average="macro", validate_args=False),
            }
        )

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy in nats; outputs (B, num_classes), y (B,) of class numbers."""
        return F.cross_entropy(outputs, y)

    def predict(self, outputs: Tensor) -> Tensor:
        """Class probabilities, (B, num_classes)."""
        return outputs.softmax(dim=-1)
