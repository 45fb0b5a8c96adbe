"""The run's folder: its name, its log, its manifest, and how to load it again."""

from .loading import Run, load_run

__all__ = ["Run", "load_run"]
