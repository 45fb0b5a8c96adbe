"""The counts behind F1, precision and others are those of scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import multilabel_confusion_matrix

from ..support.template_package import Part

NAMES = ["Accuracy", "F1Score", "FBetaScore", "Precision", "Recall", "Specificity"]


@pytest.mark.parametrize("average", ["macro", "weighted", "none"])
@pytest.mark.parametrize("name", NAMES)
def test_counts_of_each_class_are_those_of_scikit_learn(
    name: str, average: str, package: Part
) -> None:
    """Metrics that are fast and wrong would be believed."""
    rng = np.random.default_rng(0)
    # Class 3 is neither there nor predicted; pixels of images, in two batches.
    actual, predicted = rng.integers(0, 3, (2, 7, 4, 5))
    options = {"beta": 2.0} if name == "FBetaScore" else {}
    metric = getattr(package("models.class_metrics"), name)(
        num_classes=4, average=average, validate_args=False, **options
    )
    scores = torch.from_numpy(np.eye(4)[predicted]).movedim(-1, 1)
    for rows in (slice(0, 5), slice(5, 7)):
        metric.update(scores[rows], torch.from_numpy(actual[rows]))
    matrices = multilabel_confusion_matrix(actual.ravel(), predicted.ravel(), labels=range(4))
    expected = {
        "tn": matrices[:, 0, 0],
        "fp": matrices[:, 0, 1],
        "fn": matrices[:, 1, 0],
        "tp": matrices[:, 1, 1],
    }
    for state, counts in expected.items():
        assert getattr(metric, state).tolist() == counts.tolist()
        assert getattr(metric, state).dtype == torch.int64


def test_options_that_count_otherwise_are_those_of_torchmetrics(package: Part) -> None:
    """A replaced class must not ignore what its user asks for."""
    from torchmetrics.classification import MulticlassRecall

    rng = np.random.default_rng(1)
    scores, actual = torch.from_numpy(rng.random((40, 4))), torch.from_numpy(rng.integers(0, 4, 40))
    ours = package("models.class_metrics").Recall
    for options in ({"top_k": 2}, {"ignore_index": 1}, {"average": "micro"}):
        values = []
        for metric_class in (ours, MulticlassRecall):
            metric = metric_class(num_classes=4, **options)
            metric.update(scores, actual)
            values.append(metric.compute())
        assert values[0] == values[1]
