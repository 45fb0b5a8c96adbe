"""Training images as the model sees them: shifted, mixed, partly erased."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from ..data.images import to_images
from ..figures import save_figure
from ..user_text import plot_labels

ROWS, COLUMNS = 4, 6


class AugmentedInputs(Callback):
    """Draws images of the first training batch if the datamodule augments them.

    Nothing is drawn at random, so the training is the same with and without this callback.

    Args:
        path: the PNG file. A resumed run keeps it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @rank_zero_only
    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Draw the images of the first batch."""
        # `global_step` takes Lightning longer than everything else here.
        if batch_idx > 0 or trainer.global_step > 0 or trainer.fast_dev_run or self.path.exists():
            return
        datamodule: Any = getattr(trainer, "datamodule", None)
        preprocessing = getattr(datamodule, "preprocessing", None) or {}
        is_augmenting = getattr(datamodule, "is_augmenting", False)
        if not is_augmenting or trainer.overfit_batches or preprocessing.get("kind") != "image":
            return
        x, y = (values[: ROWS * COLUMNS].float().cpu() for values in batch)
        names = getattr(datamodule, "class_names", [])
        figure = draw_inputs(to_images(x, preprocessing), y, names)
        save_figure(figure, self.path, trainer)


def draw_inputs(images: Tensor, y: Tensor, class_names: list[str]) -> Figure:
    """Draw images with their labels.

    Args:
        images: (N, H, W, 3) or (N, H, W), with values from 0 to 1.
        y: class numbers (N,), probabilities or labels (N, C), or values without class names.
        class_names: in the order of the classes.
    """
    labels = plot_labels(class_names, "class", longest=10)
    figure = Figure(figsize=(1.5 * COLUMNS, 1.9 * ROWS), layout="constrained")
    figure.suptitle("Augmented inputs of the first training step")
    grid = figure.subplots(ROWS, COLUMNS)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, target in zip(grid.flat, images, y, strict=False):
        axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
        axes.set_title(describe(target, labels), fontsize=8)
    return figure


def describe(target: Tensor, labels: list[str]) -> str:
    """One target in words: its class, the classes of a mixture, or a value.

    Args:
        target: a class number, probabilities or labels (C,), or a value without labels.
        labels: names of the classes.
    """
    if target.dim() == 0:
        return labels[int(target)] if labels else f"{target:.3g}"
    weights, classes = target.sort(descending=True, stable=True)
    parts = zip(weights.tolist(), classes.tolist(), strict=True)
    shown = [(weight, labels[place]) for weight, place in parts if weight > 0]
    return "\n".join(name if weight == 1 else f"{weight:.0%} {name}" for weight, name in shown)
