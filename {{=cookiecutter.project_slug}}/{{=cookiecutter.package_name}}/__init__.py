"""Data, models, callbacks, plots and the training function of this project.

Kept free of heavy imports, so that `python train.py --help` answers immediately.
"""

from pathlib import Path

from workbench.project import register_project

register_project(package=__name__, root=Path(__file__).resolve().parents[1])
