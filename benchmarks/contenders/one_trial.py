"""A trial as every contender trains it: `train(cfg)` of the project in the current folder."""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METRIC = "val/acc"
LRS = (1e-4, 1e-1)
WIDTHS = (16, 32, 64)
# As the trials of the project's own sweeps: no test, and no aids whose pictures nobody looks at.
LEFT_OUT = ("loss_curves", "model_summary", "run_texts", "device", "gradient_norms")
OPTIONS = (
    "model=mlp",
    "trainer=cpu",
    "test=false",
    "trainer.num_sanity_val_steps=0",
    *(f"callbacks.{name}=null" for name in LEFT_OUT),
)


def suggest(trial: Any) -> dict[str, Any]:
    """A point of the space of the digits, from an Optuna trial."""
    return {
        "optimizer.lr": trial.suggest_float("optimizer.lr", *LRS, log=True),
        "optimizer.weight_decay": trial.suggest_float("optimizer.weight_decay", *LRS, log=True),
        "model.net.width": trial.suggest_categorical("model.net.width", WIDTHS),
        "model.net.dropout": trial.suggest_float("model.net.dropout", 0.0, 0.5),
    }


def options_of(params: Mapping[str, Any], epochs: int) -> list[str]:
    """The options of `train.py` for a point."""
    return [
        *OPTIONS,
        f"trainer.max_epochs={epochs}",
        *(f"{key}={value}" for key, value in params.items()),
    ]


def train(project: Path, folder: Path, params: Mapping[str, Any], epochs: int) -> float:
    """Train a point in this process; the metric of its best epoch.

    Args:
        project: the project's folder.
        folder: where the run writes.
        params: the point.
        epochs: how long it is trained.
    """
    from hydra import compose, initialize_config_dir

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if str(project) not in sys.path:
        sys.path.insert(0, str(project))
    package = next(project.glob("*/training.py")).parent.name
    importlib.import_module(package)
    importlib.import_module("workbench.runs.directory").register_resolvers()
    options = [f"++paths.output_dir={folder}", *options_of(params, epochs)]
    with initialize_config_dir(str(project / "configs"), version_base="1.3"):
        config = compose("train", options)
    value: float = importlib.import_module(f"{package}.training").train(config)[METRIC]
    return value
