"""Classification with a pretrained network."""

from collections.abc import Sequence
from typing import Any

from workbench.checks import check_integer, check_number
from workbench.models.backbones import PRETRAINED, build_backbone, check_input
from workbench.models.by_name import Loss
from workbench.models.metrics import Spec
from workbench.models.parts import divide, rates_by_part

from .classifier import Classifier


class FineTuned(Classifier):
    """A pretrained network with a new head, whose lower parts learn more slowly.

    Lower layers recognize edges and textures, which all images have, so they need to change least.
    The callback `unfreezing` decides from which epoch on a part is trained at all.

    The arguments not listed here are those of `Classifier`.

    Args:
        backbone: library and network, such as "torchvision/resnet18", "timm/convnext_tiny" or
            "hf/microsoft/resnet-18".
        weights: "pretrained" for those of the library, a file, or None for random ones.
        num_parts: number of parts into which the backbone is divided.
        rate_decay: learning rate of a part as a fraction of that of the part above it; that of the
            head is `optimizer.lr`.
        architecture: what a name alone does not describe; a checkpoint stores it.
    """

    def __init__(
        self,
        backbone: str,
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        input_shape: Sequence[int],
        num_classes: int,
        weights: str | None = PRETRAINED,
        num_parts: int = 4,
        rate_decay: float = 0.4,
        architecture: dict[str, Any] | None = None,
        loss: Loss | None = None,
        metrics: Sequence[Spec] | None = None,
        class_names: Sequence[str] | None = None,
        class_counts: Sequence[Any] | None = None,
        task: str = "classification",
        preprocessing: dict[str, Any] | None = None,
    ) -> None:
        check_number("model.rate_decay", rate_decay, above=0, most=1)
        check_integer("model.num_parts", num_parts, 1)
        is_text = (preprocessing or {}).get("kind") == "text"
        built = build_backbone(backbone, num_classes, weights, architecture, is_text)
        check_input(built.net, backbone, input_shape, preprocessing)
        super().__init__(
            built.net,
            optimizer,
            scheduler,
            input_shape,
            num_classes,
            loss,
            metrics,
            class_names,
            class_counts,
            task,
            preprocessing,
        )
        self.hparams["architecture"] = built.architecture
        self.parts = divide(built.net, built.head, num_parts)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The head, and the parts of the backbone from the top down, each with its own rate."""
        rate, decay = self.hparams["optimizer"]["lr"], self.hparams["rate_decay"]
        return rates_by_part(self, self.parts, rate, decay)
