"""Training and validation loss over the epochs, as a picture."""

import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from ..pictures import save_picture
from .metric_history import MetricHistory


def draw_loss_curves(rows: list[dict[str, float]]) -> Figure:
    """Draw `train/loss` and `val/loss`, the lowest validation loss marked.

    Args:
        rows: one per epoch, and one per validation within an epoch; in the order of their steps.
    """
    # Figure and not pyplot: pyplot keeps every figure of the process alive. These margins fit;
    # a computed layout would draw everything twice.
    figure = Figure(figsize=(7, 4.5))
    figure.subplots_adjust(left=0.11, right=0.98, bottom=0.11, top=0.93)
    axes = figure.subplots()
    for name, label in (("train/loss", "training"), ("val/loss", "validation")):
        points = [(_epochs(row), row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker=".", markersize=3)
    validated = [row for row in rows if math.isfinite(row.get("val/loss", math.nan))]
    if validated:
        lowest = min(validated, key=lambda row: row["val/loss"])
        axes.plot(
            _epochs(lowest),
            lowest["val/loss"],
            "o",
            markersize=9,
            fillstyle="none",
            color="black",
            label=f"lowest validation: {lowest['val/loss']:.4g} in epoch {lowest['epoch'] + 1:.0f}",
        )
    axes.set(xlabel="epoch", ylabel="loss", title="Loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _epochs(row: dict[str, float]) -> float:
    """How many epochs had been trained."""
    return row["epoch"] + row.get("share", 1)


class LossCurves(Callback):
    """Draws the curves when training ends, into the run's folder and into TensorBoard.

    The numbers come from `MetricHistory`, so the curves go on over a resume.

    Args:
        path: the PNG file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw what was collected."""
        rows = [
            row
            for callback in trainer.callbacks
            if isinstance(callback, MetricHistory)
            for row in sorted(callback.rows + callback.within, key=lambda row: row["step"])
        ]
        if not rows or trainer.fast_dev_run:
            return
        save_picture(draw_loss_curves(rows), self.path, trainer)
