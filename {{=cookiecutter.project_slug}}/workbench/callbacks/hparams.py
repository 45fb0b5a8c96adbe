"""Hyperparameters and best metrics, one row a run in TensorBoard's HPARAMS tab."""

import math
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from ..runs.manifest import read_manifest

# A table of runs is for what they differ in; folders and switches would fill a hundred columns.
NOT_COMPARED = ("paths", "callbacks", "logger")


class HyperparameterLogger(Callback):
    """Logs the run's config once, and `hp/best_<metric>` after every validation.

    TensorBoard takes the columns of its table from the first record of a run, so the metrics are
    named at the start, without a value, and filled in as they come. Their names are the same in
    all runs because TensorBoard blanks columns that only some runs under a folder have.

    Args:
        directory: the run's folder.
        metric: the metric to optimise, for example `val/acc`; None without an objective.
        mode: "max" or "min".
    """

    def __init__(self, directory: str, metric: str | None, mode: str) -> None:
        self.directory = Path(directory)
        self.metric = metric
        self.mode = mode
        self.best = math.nan

    @property
    def tag(self) -> str:
        """Name of the column in the HPARAMS table."""
        return f"hp/best_{str(self.metric).replace('/', '_')}"

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the config to every logger."""
        if not trainer.loggers:
            return
        # From where the values that were found before the training have been written.
        config = read_manifest(self.directory).get("config", {})
        config = {name: part for name, part in config.items() if name not in NOT_COMPARED}
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                metrics = {} if self.metric is None else {self.tag: self.best}
                logger.log_hyperparams(config, metrics)
            else:
                logger.log_hyperparams(config)

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best value so far."""
        value = trainer.callback_metrics.get(self.metric or "")
        if trainer.sanity_checking or value is None:
            return
        choose = max if self.mode == "max" else min
        self.best = float(value) if math.isnan(self.best) else choose(self.best, float(value))
        for logger in trainer.loggers:
            logger.log_metrics({self.tag: self.best}, step=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        """The best value, for the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the best value of the checkpoint."""
        self.best = state_dict["best"]
