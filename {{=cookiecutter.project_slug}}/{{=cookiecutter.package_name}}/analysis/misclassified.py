"""The images that are misclassified with the highest confidence."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from workbench.analysis import Evaluation
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


def to_images(x: Tensor, preprocessing: dict[str, list[float]]) -> Tensor:
    """Model inputs (N, C, H, W) as images in 0..1: (N, H, W, 3), or (N, H, W) in grey."""
    mean, std = (torch.tensor(preprocessing[name]).view(-1, 1, 1) for name in ("mean", "std"))
    images = (x * std + mean).clamp(0, 1)
    return images.permute(0, 2, 3, 1) if x.shape[1] == 3 else images.mean(dim=1)
