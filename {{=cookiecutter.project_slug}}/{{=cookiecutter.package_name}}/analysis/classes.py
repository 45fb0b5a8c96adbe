"""Precision, recall and F1 of each class."""

import math

from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from workbench.analysis.outcome import Outcome
from workbench.analysis.table import Table
from workbench.multilabel import THRESHOLD

# A screen.
ROWS_SHOWN = 20


def tabulate_classes(outcome: Outcome) -> Table:
    """One row per class or label, the lowest F1 first.

    There is no precision where the class was never predicted, no recall where it never occurs, and
    no F1 where both hold.
    """
    names = outcome.class_names
    hits, true, predicted = (
        count_labels(outcome) if _has_labels(outcome) else count_classes(outcome)
    )
    columns = [hits / predicted, hits / true, 2 * hits / (true + predicted), true.long()]
    rows = [
        [name, *values]
        for name, *values in zip(names, *(column.tolist() for column in columns), strict=True)
    ]
    rows.sort(key=lambda row: (math.isnan(row[3]), row[3]))
    column = "label" if _has_labels(outcome) else "class"
    return Table([column, "precision", "recall", "f1", "support"], rows, shown=ROWS_SHOWN)


def _has_labels(outcome: Outcome) -> bool:
    return outcome.task == "multilabel"


def count_classes(outcome: Outcome) -> tuple[Tensor, Tensor, Tensor]:
    """Correct predictions, samples and predictions of each class, (num_classes,) each."""
    number = len(outcome.class_names)
    counts = multiclass_confusion_matrix(outcome.predictions, outcome.targets, number).double()
    return counts.diag(), counts.sum(dim=1), counts.sum(dim=0)


def count_labels(outcome: Outcome) -> tuple[Tensor, Tensor, Tensor]:
    """Correct predictions, samples and predictions of each label, (num_classes,) each."""
    predicted, true = outcome.predictions >= THRESHOLD, outcome.targets > 0
    return tuple(which.sum(dim=0).double() for which in (predicted & true, true, predicted))  # type: ignore[return-value]
