"""Pictures of what a model gets right and wrong, made from its predictions."""

from collections.abc import Callable

from matplotlib.figure import Figure
from torch import Tensor

from ..models.base import SupervisedModule
from .confusion import draw_confusion
from .residuals import draw_residuals

# (predictions, targets, model) to a figure; `evaluate.py` draws all of the model's task.
ANALYSES: dict[str, dict[str, Callable[[Tensor, Tensor, SupervisedModule], Figure]]] = {
    "classification": {"confusion": draw_confusion},
    "regression": {"residuals": draw_residuals},
}
