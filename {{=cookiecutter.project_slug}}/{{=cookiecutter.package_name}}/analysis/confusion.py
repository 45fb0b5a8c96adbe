"""The confusion matrix: which classes are taken for which."""

from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from ..models.base import SupervisedModule

# Beyond this many classes numbers no longer fit into the cells.
MOST_CLASSES_WITH_NUMBERS = 20


def draw_confusion(probabilities: Tensor, targets: Tensor, model: SupervisedModule) -> Figure:
    """Draw counts, coloured by the share of the true class.

    Args:
        probabilities: (N, num_classes).
        targets: (N,) class numbers.
        model: a classifier, for the names of the classes.
    """
    names = [str(name) for name in model.hparams["class_names"]]
    counts = multiclass_confusion_matrix(probabilities, targets, num_classes=len(names))
    # A class without samples has a row of zeros, not of NaN.
    rates = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    size = max(4.5, 0.5 * len(names) + 2.5)
    figure = Figure(figsize=(size + 1, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rates.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.8)
    if len(names) <= MOST_CLASSES_WITH_NUMBERS:
        for row, column in counts.nonzero().tolist():
            axes.text(
                column,
                row,
                str(int(counts[row, column])),
                ha="center",
                va="center",
                color="white" if rates[row, column] > 0.5 else "black",
            )
    accuracy = counts.diag().sum() / counts.sum()
    tilt = 45 if max(map(len, names)) > 3 else 0
    side = "right" if tilt else "center"
    axes.set_xticks(range(len(names)), names, rotation=tilt, ha=side, rotation_mode="anchor")
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlabel="predicted class",
        ylabel="true class",
        title=f"{int(counts.sum())} samples, accuracy {accuracy:.3f}",
    )
    return figure
