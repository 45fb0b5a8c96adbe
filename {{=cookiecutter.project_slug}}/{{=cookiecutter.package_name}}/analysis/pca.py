"""Principal components of a layer's activations: what the network distinguishes there."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from workbench.analysis import Evaluation, columns
from workbench.user_text import plot_label, plot_labels

# With more classes than this, a legend is unreadable; their names are in the plot,
MOST_IN_LEGEND = 20
# and with more than this, names would hide the points.
MOST_NAMES = 40


def draw_pca(evaluation: Evaluation) -> Figure | None:
    """Draw the samples along the first two components; None for fewer than two dimensions."""
    activations, targets = evaluation.activations, evaluation.targets
    if min(activations.shape) < 2:
        return None
    points, fractions = principal_components(activations)
    layer = plot_label(evaluation.layer, "a layer")
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    targets = targets[evaluation.positions] if len(targets) else targets
    if len(targets) and evaluation.task == "classification":
        _draw_classes(axes, points, targets, _names(evaluation.class_names))
    elif len(targets) and evaluation.task == "regression":
        # The first of several targets.
        values, name = columns(targets)[0], plot_label(evaluation.target_names[0], "target")
        dots = axes.scatter(points[:, 0], points[:, 1], s=12, c=values, cmap="viridis")
        figure.colorbar(dots, label=f"true {name}")
    else:
        axes.scatter(points[:, 0], points[:, 1], s=12)
    axes.set(
        xlabel=f"first component ({fractions[0]:.1%} of the variance)",
        ylabel=f"second component ({fractions[1]:.1%} of the variance)",
        title=f"PCA of {layer}: {len(points)} samples, {activations.shape[1]} dimensions",
    )
    axes.grid(alpha=0.3)
    return figure


def principal_components(activations: Tensor, count: int = 2) -> tuple[Tensor, Tensor]:
    """Coordinates along the first components, and the fractions of variance they explain.

    Args:
        activations: (M, F), at least `count` of both.
        count: number of components.

    Returns:
        Coordinates (M, count) and fractions (count,). The sign of a component is arbitrary; it is
        chosen so that the largest weight is positive.
    """
    centred = activations.double() - activations.double().mean(dim=0)
    # More components and iterations than the defaults make the first ones exact; the seed makes
    # them reproducible.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, scales, directions = torch.pca_lowrank(
            centred, q=min(count + 8, *centred.shape), center=False, niter=20
        )
    directions = directions[:, :count]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    # Not `sign`, which is zero for the empty directions of a layer that never changes.
    directions = torch.where(largest < 0, -directions, directions)
    total = centred.square().sum()
    return centred @ directions, scales[:count].square() / total.clamp(min=1e-30)


def _names(class_names: list[str]) -> list[str]:
    return plot_labels(class_names, "class", 16 if len(class_names) <= MOST_IN_LEGEND else 10)


def _draw_classes(axes: Axes, points: Tensor, targets: Tensor, names: list[str]) -> None:
    colours = _colours(len(names))
    dots = []
    for number, name in enumerate(names):
        own = points[targets == number]
        dots.append(axes.scatter(own[:, 0], own[:, 1], s=12, color=colours[number]))
        if MOST_IN_LEGEND < len(names) <= MOST_NAMES and len(own):
            x, y = own.median(dim=0).values.tolist()
            # On white, so that it can be read over the points of others.
            back = {"facecolor": "white", "edgecolor": "none", "alpha": 0.6, "pad": 0.5}
            axes.text(x, y, name, fontsize=7, ha="center", va="bottom", bbox=back)
    if len(names) <= MOST_IN_LEGEND:
        # Named here: a label of the dots that begins with "_" would be left out.
        axes.legend(dots, names, loc="center left", bbox_to_anchor=(1, 0.5))


def _colours(classes: int) -> list[tuple[float, ...]]:
    """One color per class, as distinct as their number allows."""
    from matplotlib import colormaps

    if classes <= MOST_IN_LEGEND:
        return list(colormaps["tab10" if classes <= 10 else "tab20"].colors)  # type: ignore[attr-defined]
    return [colormaps["turbo"](number / (classes - 1)) for number in range(classes)]
