"""The tables printed at the end of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .metric_names import PLACES, split_name

# Long paths stay on one line, so that they can be copied; a class may be called [red] or :cat:.
CONSOLE = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)

# Sets of weights that are measured separately, and their parts of the metrics.
WEIGHTS = {
    "best": ("best", "test"),
    "last": ("last", "test last"),
    "averaged": ("averaged", "test averaged"),
}
Metrics = dict[str, dict[str, float]]
COMPARED = ("last", "averaged", "test last", "test averaged")


def print_metrics(name: str, metrics: dict[str, dict[str, float]]) -> None:
    """Print one row per metric.

    Args:
        name: the run's name.
        metrics: of the best and the final epoch, and of the test, as far as they exist; those of
            last and averaged weights are printed in a second table.
    """
    if "averaged" in metrics:
        _print(name, {part: values for part, values in metrics.items() if part not in COMPARED})
        _print_weights(metrics)
    else:
        _print(name, metrics)


def _print(name: str, metrics: dict[str, dict[str, float]]) -> None:
    found = {
        part: {split_name(key): value for key, value in values.items() if key not in PLACES}
        for part, values in metrics.items()
    }
    columns = [
        (part, stage)
        for part, values in found.items()
        for stage in ("train", "val", "test", "")
        if any(key[0] == stage for key in values)
    ]
    if not columns:
        return  # the model logs nothing, or the run ended before anything was measured
    rows = without_forks(sorted({metric for values in found.values() for _, metric in values}))
    headers = [part if stage in (part, "") else f"{part} {stage}" for part, stage in columns]
    table = Table("metric", *headers, title=name, title_justify="left")
    for row in rows:
        numbers = [found[part].get((stage, row)) for part, stage in columns]
        table.add_row(row, *map(_number, numbers))
    CONSOLE.print(table)


def print_averages(title: str, means: Metrics, deviations: Metrics) -> None:
    """Print mean and standard deviation over folds, one row per metric.

    Args:
        title: the title of the table.
        means: the means by part (best, test) and name.
        deviations: the standard deviations in the same form.
    """
    table = Table("", "metric", "mean", "std", title=title, title_justify="left")
    for part, values in means.items():
        for name, value in values.items():
            # The metrics of the last epoch are in run.json.
            if part != "final" and name not in PLACES:
                label = "best epoch" if part == "best" else part
                table.add_row(label, name, _number(value), _number(deviations[part][name]))
    CONSOLE.print(table)


def without_forks(names: Sequence[str]) -> list[str]:
    """Drop the names that Lightning adds for `on_step=True, on_epoch=True`.

    Beside `loss`, the mean over the epoch, these are `loss_step` and `loss_epoch`.
    """
    ends = ("_step", "_epoch")
    forks = {name + end for name in names for end in ends}
    return [name for name in names if name not in forks]


def _number(value: float | None) -> str:
    """Four decimals, or four digits of a small number."""
    if value is None:
        return ""
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.4g}"


def _print_weights(metrics: dict[str, dict[str, float]]) -> None:
    """Print one row per set of weights."""
    rows: dict[str, dict[str, float]] = {
        name: metrics.get(validated, {}) | metrics.get(tested, {})
        for name, (validated, tested) in WEIGHTS.items()
    }
    names = [name for name in rows["averaged"] if name not in PLACES]
    if not names:
        return
    table = Table("weights", *(" ".join(split_name(name)).strip() for name in names))
    for name, values in rows.items():
        found = [values.get(column) for column in names]
        table.add_row(name, *map(_number, found))
    CONSOLE.print(table)


def print_places(directory: Path, manifest: dict[str, Any]) -> None:
    """Print why training ended, the seconds of each stage, and the files of the run.

    Args:
        directory: the run's folder.
        manifest: the content of its `run.json`.
    """
    stages = manifest.get("timings", {})
    times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items())
    if text := manifest.get("ended_text"):
        CONSOLE.print(f"training ended   {text}", markup=False)
    if times:
        CONSOLE.print(f"time             {times}")
    CONSOLE.print(f"run folder       {directory}")
    for name, path in manifest.get("checkpoints", {}).items():
        CONSOLE.print(f"{name + ' weights':<16} {path}")
    for path in sorted(directory.glob("figures/*.png")):
        CONSOLE.print(f"plot             {path}")
    for path in sorted(directory.glob("tables/*.csv")):
        CONSOLE.print(f"table            {path}")
    for path in sorted(directory.glob("texts/*.txt")):
        CONSOLE.print(f"text             {path}")
