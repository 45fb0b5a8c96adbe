"""What `evaluate.py` gives to the functions in the project's `analysis/` folder.

An analysis is a function that takes an `Outcome` and returns a figure or a table, or None if there
is nothing to show. `configs/analyses/` has a file for each.
"""

from collections.abc import Callable

from hydra.utils import get_method
from matplotlib.figure import Figure
from omegaconf import DictConfig
from pytorch_lightning import LightningModule

from ..errors import UserError
from ..models.supervised import judges_samples
from .outcome import Outcome
from .table import Table

Analysis = Callable[[Outcome], Figure | Table | None]


def choose_analyses(
    config: DictConfig | None, model: LightningModule, is_explicit: bool
) -> dict[str, Analysis]:
    """The analyses that mean something for a model, by name.

    Args:
        config: by name, the `function` and optionally the `tasks` of each analysis.
        model: the model to analyse.
        is_explicit: whether the command names the analyses, instead of taking all.

    Raises:
        UserError: the command names an analysis that means nothing for the model.
    """
    task = model.task if judges_samples(model) else None
    chosen = {}
    unsuitable = []
    for name, entry in (config or {}).items():
        tasks = entry.get("tasks")
        if tasks is None or task in tasks:
            chosen[str(name)] = get_method(entry.function)
        else:
            unsuitable.append(name)
    if unsuitable and is_explicit:
        raise UserError(
            f"The analysis {unsuitable[0]!r} means nothing for a {type(model).__name__}: leave it "
            "out of analyses=[...]."
        )
    return chosen


__all__ = ["Analysis", "Outcome", "Table", "choose_analyses"]
