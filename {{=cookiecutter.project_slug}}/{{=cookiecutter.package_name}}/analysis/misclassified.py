"""The images that are misclassified with the highest confidence."""

from matplotlib.figure import Figure

from workbench.analysis import Evaluation
from workbench.data.images import to_images
from workbench.user_text import plot_labels

COLUMNS = 6
MOST_IMAGES = 30


def draw_misclassified(evaluation: Evaluation) -> Figure | None:
    """Draw them, most confident first; None for tables and if every prediction is correct."""
    if evaluation.preprocessing.get("kind") != "image":
        return None
    confidence, predicted = evaluation.predictions.max(dim=1)
    wrong = (predicted != evaluation.targets).nonzero().flatten()
    if len(wrong) == 0:
        return None
    chosen = wrong[confidence[wrong].argsort(descending=True)][:MOST_IMAGES].tolist()
    images = to_images(evaluation.inputs(chosen), evaluation.preprocessing)
    names = plot_labels(evaluation.class_names, "class")
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(4.5, 1.7 * columns), 2.2 * rows + 0.5), layout="constrained")
    figure.suptitle(f"Misclassified, most confident first: {len(chosen)} of {len(wrong)}")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, position, image in zip(grid.flat, chosen, images, strict=False):
        axes.imshow(image.numpy(), cmap="gray", vmin=0, vmax=1)
        true, wrongly = (names[int(of[position])] for of in (evaluation.targets, predicted))
        axes.set_title(
            f"true: {true}\npredicted: {wrongly}\nprobability {confidence[position]:.1%}",
            fontsize=7,
        )
    return figure
