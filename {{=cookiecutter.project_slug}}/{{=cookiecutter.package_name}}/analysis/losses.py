"""The loss of every sample, to look at the worst ones."""

from torch import Tensor

from workbench.analysis.outcome import Outcome, columns
from workbench.analysis.table import Table
from workbench.floats import exact_floats
from workbench.multilabel import THRESHOLD, join_labels


def tabulate_losses(outcome: Outcome) -> Table:
    """One row per sample, the largest loss first; `index` is the position in the dataset.

    Large losses are where to look for wrong labels and for cases that the training part lacks.
    """
    order = outcome.losses.argsort(descending=True, stable=True)
    told = [
        *_columns(outcome, "true", outcome.targets[order]),
        *_columns(outcome, "predicted", _answers(outcome)[order]),
    ]
    table = [order.tolist(), *(values for _, values in told), exact_floats(outcome.losses[order])]
    rows = [list(row) for row in zip(*table, strict=True)]
    return Table(["index", *(name for name, _ in told), "loss"], rows)


def _answers(outcome: Outcome) -> Tensor:
    if outcome.task == "classification":
        return outcome.predictions.argmax(dim=1)
    if outcome.task == "multilabel":
        return outcome.predictions >= THRESHOLD
    return outcome.predictions


def _columns(outcome: Outcome, name: str, values: Tensor) -> list[tuple[str, list[object]]]:
    """The columns that show targets or answers: names of classes, or numbers."""
    names = outcome.class_names
    if outcome.task == "classification":
        return [(name, [names[number] for number in values.tolist()])]
    if outcome.task == "multilabel":
        chosen = [row.nonzero().flatten().tolist() for row in values]
        return [(name, [join_labels(names, row) for row in chosen])]
    targets = columns(values)
    if len(targets) == 1:
        return [(name, exact_floats(targets[0]))]
    return [
        (f"{name} {target}", exact_floats(column))
        for target, column in zip(outcome.target_names, targets, strict=True)
    ]
