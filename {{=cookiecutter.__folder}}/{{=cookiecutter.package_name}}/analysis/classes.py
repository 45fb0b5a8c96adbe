"""Precision, recall and F1 of each class."""

import math

from torchmetrics.functional.classification import multiclass_confusion_matrix

from .outcome import Outcome
from .table import Table

# A screen.
ROWS_SHOWN = 20


def tabulate_classes(outcome: Outcome) -> Table:
    """One row per class, the lowest F1 first.

    There is no precision where the class was never predicted, no recall where it never occurs, and
    no F1 where both hold.
    """
    names = outcome.class_names
    counts = multiclass_confusion_matrix(outcome.predictions, outcome.targets, len(names)).double()
    hits, true, predicted = counts.diag(), counts.sum(dim=1), counts.sum(dim=0)
    columns = [hits / predicted, hits / true, 2 * hits / (true + predicted), true.long()]
    rows = [
        [name, *values]
        for name, *values in zip(names, *(column.tolist() for column in columns), strict=True)
    ]
    rows.sort(key=lambda row: (math.isnan(row[3]), row[3]))
    return Table(["class", "precision", "recall", "f1", "support"], rows, shown=ROWS_SHOWN)
