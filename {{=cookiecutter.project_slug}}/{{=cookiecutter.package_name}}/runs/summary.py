"""The short table at the end of a run."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

# Long paths stay on one line, so that they can be copied.
CONSOLE = Console(soft_wrap=True, highlight=False)


def print_metrics(name: str, metrics: dict[str, dict[str, float]]) -> None:
    """Print one row per metric.

    Args:
        name: the run's name.
        metrics: of the best and the final epoch, and of the test, as far as they are there.
    """
    columns = [
        (part, stage)
        for part, values in metrics.items()
        for stage in ("train", "val", "test")
        if any(key.startswith(f"{stage}/") for key in values)
    ]
    rows = sorted({key.partition("/")[2] for values in metrics.values() for key in values} - {""})
    headers = [stage if stage == part else f"{part} {stage}" for part, stage in columns]
    table = Table("metric", *headers, title=name, title_justify="left")
    for row in rows:
        values = [metrics[part].get(f"{stage}/{row}") for part, stage in columns]
        table.add_row(row, *("" if value is None else f"{value:.4f}" for value in values))
    CONSOLE.print(table)


def print_places(directory: Path, manifest: dict[str, Any]) -> None:
    """Print the seconds of the stages and where everything is.

    Args:
        directory: the run's folder.
        manifest: the content of its `run.json`.
    """
    stages = manifest.get("timings", {})
    times = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in stages.items())
    if times:
        CONSOLE.print(f"time         {times}")
    CONSOLE.print(f"run folder   {directory}")
    for name, path in manifest.get("checkpoints", {}).items():
        CONSOLE.print(f"{name + ' weights':<12} {path}")
    for path in sorted(directory.glob("figures/*.png")):
        CONSOLE.print(f"picture      {path}")
