"""Precision, recall and F1 of each class."""

import math

from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from workbench.analysis import Evaluation, Table
from workbench.prediction_columns import THRESHOLD

ROWS_SHOWN = 20


def tabulate_classes(evaluation: Evaluation) -> Table:
    """One row per class or label, the lowest F1 first.

    Precision is undefined for a class that is never predicted, recall for one that never occurs,
    and F1 if both hold; their cells are empty.
    """
    names = evaluation.class_names
    hits, true, predicted = (
        count_labels(evaluation) if _has_labels(evaluation) else count_classes(evaluation)
    )
    columns = [hits / predicted, hits / true, 2 * hits / (true + predicted), true.long()]
    rows = [
        [name, *values]
        for name, *values in zip(names, *(column.tolist() for column in columns), strict=True)
    ]
    rows.sort(key=lambda row: (math.isnan(row[3]), row[3]))
    column = "label" if _has_labels(evaluation) else "class"
    return Table([column, "precision", "recall", "f1", "support"], rows, shown=ROWS_SHOWN)


def _has_labels(evaluation: Evaluation) -> bool:
    return evaluation.task == "multilabel"


def count_classes(evaluation: Evaluation) -> tuple[Tensor, Tensor, Tensor]:
    """Correct predictions, samples and predictions of each class, (num_classes,) each."""
    number = len(evaluation.class_names)
    counts = multiclass_confusion_matrix(
        evaluation.predictions, evaluation.targets, number
    ).double()
    return counts.diag(), counts.sum(dim=1), counts.sum(dim=0)


def count_labels(evaluation: Evaluation) -> tuple[Tensor, Tensor, Tensor]:
    """Correct predictions, samples and predictions of each label, (num_classes,) each."""
    predicted, true = evaluation.predictions >= THRESHOLD, evaluation.targets > 0
    return tuple(which.sum(dim=0).double() for which in (predicted & true, true, predicted))  # type: ignore[return-value]
