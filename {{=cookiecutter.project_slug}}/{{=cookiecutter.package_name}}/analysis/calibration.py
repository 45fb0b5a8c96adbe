"""Calibration: are predictions with 80 % confidence correct in 80 % of the cases?"""

import torch
from matplotlib.figure import Figure
from torch import Tensor

from workbench.analysis import Evaluation

BINS = 15


def draw_calibration(evaluation: Evaluation) -> Figure:
    """Draw accuracy over confidence (a reliability diagram) above the number of samples.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599
    """
    confidence, predicted = evaluation.predictions.max(dim=1)
    correct = predicted == evaluation.targets
    counts, accuracy, mean_confidence = bin_by_confidence(confidence, correct)
    error = calibration_error(counts, accuracy, mean_confidence)
    figure = Figure(figsize=(6, 7), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    edges = [number / BINS for number in range(BINS)]
    bars = {"width": 1 / BINS, "align": "edge", "edgecolor": "white"}
    heights = accuracy.nan_to_num().tolist()
    top.bar(edges, heights, color="tab:blue", label="accuracy", **bars)
    top.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--", label="calibrated")
    top.plot(mean_confidence, accuracy, "o", color="tab:orange", label="at the mean confidence")
    top.set(
        ylabel="accuracy",
        xlim=(0, 1),
        ylim=(-0.03, 1.12),
        title=f"Calibration: expected calibration error (ECE) {error:.3f}\n"
        f"mean confidence {confidence.mean():.3f}, accuracy {correct.double().mean():.3f}",
    )
    top.legend(loc="upper left", ncols=3, fontsize=8)
    # Numbers, because a bar of one sample is invisible beside hundreds.
    numbers = [str(count) if count else "" for count in counts.tolist()]
    columns = bottom.bar(edges, counts.tolist(), color="tab:grey", **bars)
    bottom.bar_label(columns, numbers, fontsize=8)
    bottom.margins(y=0.2)
    bottom.set(xlabel="confidence (probability of the predicted class)", ylabel="samples")
    for axes in (top, bottom):
        axes.grid(alpha=0.3)
    return figure


def bin_by_confidence(
    confidence: Tensor, correct: Tensor, bins: int = BINS
) -> tuple[Tensor, Tensor, Tensor]:
    """Number of samples, accuracy and mean confidence in bins of equal width over 0..1.

    Args:
        confidence: probability of the predicted class (N,).
        correct: whether the prediction is correct (N,).
        bins: number of bins; the accuracy and confidence of an empty bin are NaN.
    """
    # Bins include their right edge, so that a confidence of 1 lies in the last one.
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)
    counts = torch.bincount(place, minlength=bins)
    accuracy = torch.bincount(place, correct.double(), minlength=bins) / counts
    return counts, accuracy, torch.bincount(place, confidence.double(), minlength=bins) / counts


def calibration_error(counts: Tensor, accuracy: Tensor, confidence: Tensor) -> float:
    """Expected calibration error: mean gap between accuracy and confidence over the samples."""
    gaps = (accuracy - confidence).abs().nan_to_num()
    return float((counts * gaps).sum() / counts.sum())
