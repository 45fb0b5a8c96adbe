"""The loss of every sample, for a look at the worst ones."""

from torch import Tensor

from ..decimals import exact_floats
from .outcome import Outcome
from .table import Table


def tabulate_losses(outcome: Outcome) -> Table:
    """One row per sample, the largest loss first; `index` is the position in the dataset.

    Large losses are where to look for wrong labels and for cases that the training part lacks.
    """
    order = outcome.losses.argsort(descending=True, stable=True)
    columns = (
        order.tolist(),
        _in_words(outcome, outcome.targets[order]),
        _in_words(outcome, _answers(outcome)[order]),
        exact_floats(outcome.losses[order]),
    )
    rows = [list(row) for row in zip(*columns, strict=True)]
    return Table(["index", "true", "predicted", "loss"], rows)


def _answers(outcome: Outcome) -> Tensor:
    predictions = outcome.predictions
    return predictions.argmax(dim=1) if outcome.is_classification else predictions


def _in_words(outcome: Outcome, values: Tensor) -> list[str] | list[float]:
    if not outcome.is_classification:
        return list(exact_floats(values))
    names = outcome.class_names
    return [names[number] for number in values.tolist()]
