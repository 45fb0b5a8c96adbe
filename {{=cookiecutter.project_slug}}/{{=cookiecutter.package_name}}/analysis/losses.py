"""The loss of every sample, for a look at the worst ones."""

from torch import Tensor

from workbench.analysis import Evaluation, Table, columns
from workbench.floats import exact_floats
from workbench.prediction_columns import THRESHOLD, join_labels


def tabulate_losses(evaluation: Evaluation) -> Table:
    """One row per sample, the largest loss first; `index` is the position in the dataset.

    Samples with a large loss may have wrong labels or be rare in the training split.
    """
    losses = evaluation.losses
    order = losses.argsort(descending=True, stable=True)
    told = [
        *_columns(evaluation, "true", evaluation.targets[order]),
        *_columns(evaluation, "predicted", _answers(evaluation)[order]),
    ]
    table = [
        order.tolist(),
        *(values for _, values in told),
        exact_floats(losses[order]),
    ]
    rows = [list(row) for row in zip(*table, strict=True)]
    return Table(["index", *(name for name, _ in told), "loss"], rows)


def _answers(evaluation: Evaluation) -> Tensor:
    if evaluation.task == "classification":
        return evaluation.predictions.argmax(dim=1)
    if evaluation.task == "multilabel":
        return evaluation.predictions >= THRESHOLD
    return evaluation.predictions


def _columns(evaluation: Evaluation, name: str, values: Tensor) -> list[tuple[str, list[object]]]:
    """The columns of targets or answers: class names or numbers."""
    names = evaluation.class_names
    if evaluation.task == "classification":
        return [(name, [names[number] for number in values.tolist()])]
    if evaluation.task == "multilabel":
        chosen = [row.nonzero().flatten().tolist() for row in values]
        return [(name, [join_labels(names, row) for row in chosen])]
    targets = columns(values)
    if len(targets) == 1:
        return [(name, exact_floats(targets[0]))]
    return [
        (f"{name} {target}", exact_floats(column))
        for target, column in zip(evaluation.target_names, targets, strict=True)
    ]
