"""The most confident mistakes, as pictures."""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..user_text import plot_labels
from .outcome import Outcome

COLUMNS = 6
MOST_PICTURES = 30


def draw_mistakes(outcome: Outcome) -> Figure | None:
    """Draw the wrongly classified pictures, the surest first; None for tables and no mistakes."""
    if outcome.preprocessing.get("kind") != "image":
        return None
    confidence, predicted = outcome.predictions.max(dim=1)
    wrong = (predicted != outcome.targets).nonzero().flatten()
    if len(wrong) == 0:
        return None
    chosen = wrong[confidence[wrong].argsort(descending=True)][:MOST_PICTURES].tolist()
    pictures = to_pictures(outcome.inputs(chosen), outcome.preprocessing)
    names = plot_labels(outcome.class_names, "class")
    columns = min(COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(4.5, 1.7 * columns), 2.2 * rows + 0.5), layout="constrained")
    figure.suptitle(f"Mistakes, the surest first: {len(chosen)} of {len(wrong)}")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, position, picture in zip(grid.flat, chosen, pictures, strict=False):
        axes.imshow(picture.numpy(), cmap="gray", vmin=0, vmax=1)
        true, wrongly = (names[int(t[position])] for t in (outcome.targets, predicted))
        axes.set_title(
            f"true: {true}\npredicted: {wrongly}\nprobability {confidence[position]:.1%}",
            fontsize=7,
        )
    return figure


def to_pictures(x: Tensor, preprocessing: dict[str, list[float]]) -> Tensor:
    """Model inputs (N, C, H, W) as pictures of 0..1: (N, H, W, 3), or (N, H, W) of grey."""
    mean, std = (torch.tensor(preprocessing[name]).view(-1, 1, 1) for name in ("mean", "std"))
    pictures = (x * std + mean).clamp(0, 1)
    return pictures.permute(0, 2, 3, 1) if x.shape[1] == 3 else pictures.mean(dim=1)
