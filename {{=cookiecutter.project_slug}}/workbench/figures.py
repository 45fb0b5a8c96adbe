"""Plots in a run's directory and in its loggers."""

from pathlib import Path

from matplotlib.figure import Figure
from pytorch_lightning import Trainer

from .loggers.base import run_loggers

DPI = 120
# Compressing a file of 60 kB as well as matplotlib does by default takes as long as drawing it.
COMPRESSION = {"compress_level": 1}


def save_figure(figure: Figure, path: Path, trainer: Trainer) -> None:
    """Write a PNG file and show it, under its stem, in the loggers that show images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, pil_kwargs=COMPRESSION)
    for logger in run_loggers(trainer):
        logger.show_image(path, trainer.global_step)
