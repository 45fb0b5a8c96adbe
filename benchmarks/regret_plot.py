"""The plot of the regret of search methods over the number of epochs."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# By method and number of workers, then by number of epochs: one per sweep.
Regrets = Mapping[tuple[str, int], Mapping[int, Sequence[float]]]

# Those that the plot names; the others are grey.
LINES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tpe+promote": ("tpe+promote", {"color": "C0", "lw": 3.0, "zorder": 3}),
    "random+promote": ("random+promote", {"color": "C0", "lw": 1.5, "ls": "--", "zorder": 3}),
    "tpe+percentile": ("tpe+percentile", {"color": "C1", "lw": 1.5}),
    "tpe+none": ("tpe+none", {"color": "C2", "lw": 1.5}),
    "random+none": ("random+none", {"color": "black", "lw": 1.5, "ls": ":"}),
    "optuna": ("Optuna's defaults", {"color": "C4", "lw": 1.5}),
    "ray/random+asha": ("Ray Tune, ASHA", {"color": "C3", "lw": 1.5}),
    "ray/random+hyperband": ("Ray Tune, HyperBand", {"color": "C5", "lw": 1.5}),
    "ray/bohb+bohb": ("Ray Tune, BOHB", {"color": "C6", "lw": 1.5}),
}


def draw(found: Regrets, ticks: Sequence[int], path: Path) -> None:
    """Draw the mean regret over epochs, one panel for each number of workers.

    Args:
        found: the regrets of all sweeps.
        ticks: numbers of epochs to name.
        path: of the file.
    """
    from matplotlib.figure import Figure

    counts = sorted({count for _, count in found})
    figure = Figure(figsize=(5.0 * len(counts), 5.0), layout="constrained")
    panels = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for panel, workers in zip(panels, counts, strict=True):
        for (method, count), values in found.items():
            if count == workers:
                means = [statistics.fmean(v) for v in values.values()]
                label, style = LINES.get(method, ("others", {"color": "0.8", "lw": 0.8}))
                panel.plot(list(values), means, label=label, **style)
        title = f"{workers} worker{'s' * (workers > 1)}"
        panel.set(xscale="log", yscale="log", xlabel="epochs of all trials", title=title)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter("")
        panel.set_xticks(ticks)
        panel.set_yticks([2, 3, 4, 6, 8, 12, 16])
        panel.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("mean regret in points of validation accuracy")
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    panels[0].legend(unique.values(), unique.keys(), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
