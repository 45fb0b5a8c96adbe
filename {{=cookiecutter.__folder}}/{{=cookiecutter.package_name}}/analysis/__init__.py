"""Plots and tables of what a model gets right and wrong; `evaluate.py` makes them all.

An analysis is a function that takes an `Outcome` and returns a figure or a table, or None where
there is nothing to show. To add your own: write it in this folder and add a line below.
"""

from collections.abc import Callable
from typing import TypeGuard

from matplotlib.figure import Figure
from pytorch_lightning import LightningModule

from ..models.supervised import SupervisedModule
from .calibration import draw_calibration
from .classes import tabulate_classes
from .confusion import draw_confusion
from .losses import tabulate_losses
from .mistakes import draw_mistakes
from .outcome import Outcome
from .pca import draw_pca
from .residuals import draw_residuals
from .table import Table

Analysis = Callable[[Outcome], Figure | Table | None]

ANALYSES: dict[str, dict[str, Analysis]] = {
    "classification": {
        "classes": tabulate_classes,
        "losses": tabulate_losses,
        "confusion": draw_confusion,
        "calibration": draw_calibration,
        "mistakes": draw_mistakes,
        "pca": draw_pca,
    },
    "multilabel": {
        "classes": tabulate_classes,
        "losses": tabulate_losses,
        "pca": draw_pca,
    },
    "regression": {
        "losses": tabulate_losses,
        "residuals": draw_residuals,
        "pca": draw_pca,
    },
}
# For all other models: what their predictions mean is not known.
FEATURE_ANALYSES: dict[str, Analysis] = {"pca": draw_pca}


def analyses_of(model: LightningModule) -> dict[str, Analysis]:
    """The analyses that mean something for a model, by name."""
    return ANALYSES[model.task] if judges_samples(model) else FEATURE_ANALYSES


def judges_samples(model: LightningModule) -> TypeGuard[SupervisedModule]:
    """Whether a model predicts the target of each sample of (x, y) batches."""
    steps = ("shared_step", "predict_step")
    return isinstance(model, SupervisedModule) and all(
        getattr(type(model), step) is getattr(SupervisedModule, step) for step in steps
    )


__all__ = [
    "ANALYSES",
    "FEATURE_ANALYSES",
    "Analysis",
    "Outcome",
    "Table",
    "analyses_of",
    "judges_samples",
]
