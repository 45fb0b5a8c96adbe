"""Residuals of a regression: over the predictions, their distribution, and a Q-Q plot."""

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor
from torch.distributions import Normal

from workbench.analysis import Evaluation, columns
from workbench.user_text import plot_label

# A figure with more targets is larger than a screen.
MOST_TARGETS = 8


def draw_residuals(evaluation: Evaluation) -> Figure:
    """Draw four plots of the residuals (predicted minus true values) of each target."""
    values = list(
        zip(
            evaluation.target_names,
            columns(evaluation.predictions),
            columns(evaluation.targets),
            strict=True,
        )
    )[:MOST_TARGETS]
    if len(values) == 1:
        figure = Figure(figsize=(11, 9), layout="constrained")
        _draw_target(figure, (2, 2), *values[0])
        return figure
    figure = Figure(figsize=(19, 5 * len(values)), layout="constrained")
    for part, target in zip(figure.subfigures(len(values), 1), values, strict=True):
        _draw_target(part, (1, 4), *target)
    return figure


def _draw_target(
    figure: Figure | SubFigure,
    grid: tuple[int, int],
    target_name: str,
    predictions: Tensor,
    targets: Tensor,
) -> None:
    name = plot_label(target_name, "target", longest=24)
    residuals = predictions - targets
    fit, over_prediction, distribution, quantiles = figure.subplots(*grid).flat
    figure.suptitle(
        f"{name}: {len(targets)} samples, residuals (predicted - true) with mean "
        f"{residuals.mean():.3g} and standard deviation {residuals.std(correction=0):.3g}"
    )
    _draw_fit(fit, predictions, targets, name)
    _draw_over_prediction(over_prediction, predictions, residuals, name)
    _draw_distribution(distribution, residuals, name)
    _draw_quantiles(quantiles, residuals)
    for axes in (fit, over_prediction, distribution, quantiles):
        axes.grid(alpha=0.3)


def normal_quantiles(residuals: Tensor) -> tuple[Tensor, Tensor]:
    """Quantiles of a normal distribution, and the sorted, standardised residuals.

    Returns:
        Expected and observed quantiles, (N,) each, in standard deviations.
    """
    count = len(residuals)
    fractions = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    expected = Normal(0.0, 1.0).icdf(fractions)
    observed = (residuals.double() - residuals.double().mean()) / _deviation(residuals)
    return expected, observed.sort().values


def _deviation(residuals: Tensor) -> float:
    # All residuals may be equal, and a split may hold one sample.
    return float(residuals.double().std(correction=0)) or 1.0


def _draw_fit(axes: Axes, predictions: Tensor, targets: Tensor, name: str) -> None:
    axes.scatter(targets, predictions, s=14, alpha=0.6)
    ends = [float(end) for end in torch.cat([predictions, targets]).aminmax()]
    axes.plot(ends, ends, color="black", linewidth=1, label="perfect")
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}", title="Predicted and true")
    axes.legend()


def _draw_over_prediction(axes: Axes, predictions: Tensor, residuals: Tensor, name: str) -> None:
    axes.scatter(predictions, residuals, s=14, alpha=0.6)
    axes.axhline(0, color="black", linewidth=1)
    axes.set(
        xlabel=f"predicted {name}",
        ylabel=f"residual of {name}",
        title="Residuals: a slope or funnel shows what is not learnt",
    )


def _draw_distribution(axes: Axes, residuals: Tensor, name: str) -> None:
    bins = min(50, max(10, round(len(residuals) ** 0.5)))
    low, high = (float(end) for end in residuals.aminmax())
    if high - low <= bins * math.ulp(max(abs(low), abs(high))):
        bins = 1  # they differ by rounding only, and no bin edges fit in between
    axes.hist(residuals.numpy(), bins=bins, density=True, label="residuals")
    mean, deviation = float(residuals.mean()), _deviation(residuals)
    steps = torch.linspace(-4, 4, 200, dtype=torch.float64)
    density = Normal(0.0, 1.0).log_prob(steps).exp() / deviation
    axes.plot(
        mean + deviation * steps, density, color="black", linewidth=1, label="normal distribution"
    )
    axes.set(
        xlabel=f"residual of {name}",
        ylabel=f"fraction of the samples per unit of {name}",
        title="Distribution",
    )
    axes.legend()


def _draw_quantiles(axes: Axes, residuals: Tensor) -> None:
    expected, observed = normal_quantiles(residuals)
    axes.scatter(expected, observed, s=14, alpha=0.6)
    axes.axline((0, 0), slope=1, color="black", linewidth=1, label="normal distribution")
    axes.set(
        xlabel="quantile of a normal distribution (standard deviations)",
        ylabel="quantile of the residuals (standard deviations)",
        title="Q-Q plot: ends off the line are heavy or light tails",
    )
    axes.legend()
