"""The confusion matrix: which classes are mistaken for which."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from workbench.analysis import Evaluation
from workbench.user_text import plot_labels

# With more classes than this, numbers no longer fit into the cells,
MOST_CLASSES_WITH_NUMBERS = 20
# and with more than this, only some of the classes are named.
MOST_NAMES = 100


def draw_confusion(evaluation: Evaluation) -> Figure:
    """Draw the fraction and the number of samples of each true class by predicted class."""
    names = plot_labels(evaluation.class_names, "class")
    counts = multiclass_confusion_matrix(evaluation.predictions, evaluation.targets, len(names))
    # Rows of classes without samples are zero rather than NaN.
    rates = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    figure = Figure(figsize=_size(len(names)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(rates.numpy(), cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, label="fraction of the true class", shrink=0.8)
    if len(names) <= MOST_CLASSES_WITH_NUMBERS:
        _write_numbers(axes, counts, rates)
    _name_classes(axes, names, counts.sum(dim=1).tolist())
    accuracy = counts.diag().sum() / counts.sum()
    axes.set(
        xlabel="predicted class",
        ylabel="true class (samples)",
        title=f"Confusion: {int(counts.sum())} samples, accuracy {accuracy:.3f}",
    )
    return figure


def _size(classes: int) -> tuple[float, float]:
    """Width and height in inches."""
    cell = 0.6 if classes <= MOST_CLASSES_WITH_NUMBERS else 0.15
    side = 3 + cell * min(max(classes, 3), MOST_NAMES)
    return side + 1, side


def _write_numbers(axes: Axes, counts: Tensor, rates: Tensor) -> None:
    for row, column in counts.nonzero().tolist():
        axes.text(
            column,
            row,
            f"{rates[row, column]:.0%}\n({int(counts[row, column])})",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if rates[row, column] > 0.5 else "black",
        )


def _name_classes(axes: Axes, names: list[str], samples: list[int]) -> None:
    every = -(-len(names) // MOST_NAMES)
    places = range(0, len(names), every)
    columns = names[::every]
    rows = [f"{names[place]} ({samples[place]})" for place in places]
    size = 9 if len(names) <= MOST_CLASSES_WITH_NUMBERS else 6
    axes.set_xticks(places, columns, fontsize=size)
    if max(map(len, columns)) > 3 or len(names) > MOST_CLASSES_WITH_NUMBERS:
        axes.tick_params("x", rotation=90)
    axes.set_yticks(places, rows, fontsize=size)
