"""Training and validation loss over the epochs, as a plot."""

import math
import re
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from workbench.callbacks import MetricHistory
from workbench.figures import save_figure
from workbench.runs.summary import without_forks
from workbench.user_text import plot_labels

# More curves than this would hide each other.
MOST_CURVES = 8


def loss_names(rows: list[dict[str, float]]) -> list[str]:
    """The metrics that are losses, judged by name: `train/loss`, `val_loss`, `loss_critic`."""
    names = without_forks(list(dict.fromkeys(name for row in rows for name in row)))
    losses = [name for name in names if "loss" in re.split(r"[/_\W]+", name.lower())]
    # Training first, so that it has the same color in every plot.
    return sorted(losses, key=lambda name: not name.lower().startswith("train"))[:MOST_CURVES]


def draw_loss_curves(rows: list[dict[str, float]], in_steps: bool = False) -> Figure:
    """Draw every loss, the lowest validation loss marked.

    Args:
        rows: one per epoch and one per validation within an epoch, sorted by step.
        in_steps: draw over steps instead of epochs.
    """
    # Figure instead of pyplot, which keeps every figure of the process alive. Fixed margins instead
    # of an automatic layout, which would render everything twice.
    figure = Figure(figsize=(7, 4.5))
    figure.subplots_adjust(left=0.11, right=0.98, bottom=0.11, top=0.93)
    axes = figure.subplots()
    names = loss_names(rows)
    labels = {"train/loss": "training", "val/loss": "validation"}
    for name in names:
        points = [(_place(row, in_steps), row[name]) for row in rows if name in row]
        label = labels.get(name) or plot_labels([name], "loss")[0]
        axes.plot(*zip(*points, strict=True), label=label, marker=".", markersize=3)
    validation = next((name for name in names if name.lower().startswith("val")), None)
    validated = [r for r in rows if validation and math.isfinite(r.get(validation, math.nan))]
    if validation and validated:
        lowest = min(validated, key=lambda row: row[validation])
        place = f"step {lowest['step']:.0f}" if in_steps else f"epoch {lowest['epoch'] + 1:.0f}"
        axes.plot(
            _place(lowest, in_steps),
            lowest[validation],
            "o",
            markersize=9,
            fillstyle="none",
            color="black",
            label=f"lowest validation: {lowest[validation]:.4g} in {place}",
        )
    axes.set(xlabel="step" if in_steps else "epoch", ylabel="loss")
    # With a given height, matplotlib need not measure the axis to place the title above it.
    axes.set_title("Loss", y=1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    values = [row[name] for row in rows for name in names if name in row]
    if min((value for value in values if math.isfinite(value)), default=0) >= 0:
        # Otherwise the margin above a flat curve is narrower than its marker.
        axes.update_datalim([(0, 0)], updatex=False)
        axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _place(row: dict[str, float], in_steps: bool) -> float:
    """The position of a row on the x axis, in steps or in epochs."""
    return row["step"] if in_steps else row["epoch"] + row.get("fraction", 1)


class LossCurves(Callback):
    """Draws the curves when training ends, into the run's directory and into the loggers.

    The numbers come from `MetricHistory`, so the curves include the epochs before a resume. A model
    that logs no metric with `loss` in its name gets no plot.

    Args:
        path: the PNG file.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the collected metrics."""
        history = next((c for c in trainer.callbacks if isinstance(c, MetricHistory)), None)
        if history is None or trainer.fast_dev_run:
            return
        rows = history.in_order()
        if loss_names(rows):
            # The position within an epoch of unknown length is known only in steps.
            in_steps = any("fraction" not in row for row in history.within)
            save_figure(draw_loss_curves(rows, in_steps), self.path, trainer)
