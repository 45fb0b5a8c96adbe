"""Predicted against true values, and the distribution of the errors."""

from matplotlib.figure import Figure
from torch import Tensor

from ..models.base import SupervisedModule


def draw_residuals(predictions: Tensor, targets: Tensor, model: SupervisedModule) -> Figure:
    """Draw predictions over true values, and a histogram of their differences.

    Args:
        predictions: (N,) in the target's unit.
        targets: (N,) in the target's unit.
        model: a regressor, for the name of the target.
    """
    name = str(model.hparams["target_name"])
    residuals = predictions - targets
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.scatter(targets, predictions, s=14, alpha=0.6)
    low = float(min(targets.min(), predictions.min()))
    high = float(max(targets.max(), predictions.max()))
    left.plot([low, high], [low, high], color="black", linewidth=1, label="perfect")
    left.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title=f"{len(targets)} samples")
    left.legend()
    right.hist(residuals.numpy(), bins=30)
    right.axvline(0, color="black", linewidth=1)
    right.set(
        xlabel=f"predicted minus true {name}",
        ylabel="samples",
        title=f"mean {residuals.mean():.3g}, standard deviation {residuals.std():.3g}",
    )
    return figure
