"""What a run consists of, for its loggers: hyperparameters, model, environment and config."""

import logging
import math
import re
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only

from ..loggers.base import log_config, log_metrics, run_loggers
from ..runs.config import CONFIG
from ..runs.environment import describe_model
from ..runs.logs import FILE_ONLY
from ..runs.manifest import read_manifest
from ..user_text import listed, one_line

log = logging.getLogger(__name__)

# The table compares runs; paths and switches would fill a hundred columns.
NOT_COMPARED = ("paths", "callbacks", "logger")


class HyperparameterLogger(Callback):
    """Logs the run's config once, and `hp/best_<metric>` after every validation.

    TensorBoard takes the columns of its HPARAMS table from the first record of a run, so the metric
    is named at the start, without a value, and filled in later. Its name is the same in all runs
    because TensorBoard leaves columns empty that only some runs of a directory have.

    Args:
        directory: the run's directory.
        metric: the metric to optimize, for example `val/acc`; None without an objective.
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
        # The manifest contains the values that were found before the training.
        config = read_manifest(self.directory).get("config", {})
        config = {name: group for name, group in config.items() if name not in NOT_COMPARED}
        log_config(trainer, config, {} if self.metric is None else {self.tag: self.best})

    @rank_zero_only
    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the best value so far."""
        value = trainer.callback_metrics.get(self.metric or "")
        if trainer.sanity_checking or value is None:
            return
        choose = max if self.mode == "max" else min
        self.best = float(value) if math.isnan(self.best) else choose(self.best, float(value))
        log_metrics(trainer, {self.tag: self.best})

    def state_dict(self) -> dict[str, Any]:
        """The best value, for the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best value."""
        self.best = state_dict["best"]


class RunTexts(Callback):
    """Writes model, environment and config into TensorBoard's TEXT tab and into the run's log.

    Args:
        directory: the run's directory.
    """

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the texts."""
        config = self.directory / CONFIG
        texts = {"model": describe_layers(pl_module)}
        texts |= environment_texts(read_manifest(self.directory))
        if config.is_file():
            texts["config"] = fenced(config.read_text("utf-8"), "yaml")
        for name, text in texts.items():
            log.info("%s\n%s", name, text, extra=FILE_ONLY)
            for logger in run_loggers(trainer):
                logger.show_text(name, text, trainer.global_step)


def describe_layers(pl_module: LightningModule) -> str:
    """A Markdown table of the layers and their parameters."""
    model = describe_model(pl_module)
    rows = ["| layer | what | parameters |", "| --- | --- | ---: |"]
    rows += [
        f"| {literal(layer['name'])} | {literal(layer['what'])} | {layer['parameters']:,} |"
        for layer in model["layers"]
    ]
    rows.append(f"| **all** | {model['trained']:,} of them trained | **{model['parameters']:,}** |")
    return "\n".join(rows)


def environment_texts(manifest: dict[str, Any]) -> dict[str, str]:
    """Texts about machine, packages and code, from a run's manifest."""
    git = dict(manifest.get("git") or {})
    diff = git.pop("diff", "")
    facts: dict[str, Any] = {"command": " ".join(manifest.get("command") or [])}
    # Files are shown without their hashes.
    facts |= {
        f"git {name}": listed([*value]) if isinstance(value, dict) else value
        for name, value in git.items()
    }
    facts["python"] = manifest.get("python")
    facts |= manifest.get("packages") or {}
    facts |= manifest.get("hardware") or {}
    rows = ["| what | value |", "| --- | --- |"]
    rows += [f"| {literal(str(name))} | {literal(str(value))} |" for name, value in facts.items()]
    texts = {"environment": "\n".join(rows)}
    if diff:
        texts["git_diff"] = fenced(diff, "diff")
    return texts


def fenced(text: str, language: str) -> str:
    """A Markdown code block."""
    fence = "`" * max(4, _longest_backticks(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def literal(text: str) -> str:
    """A cell of a Markdown table that shows the text literally."""
    text = one_line(text)
    # Most texts contain no Markdown, and are easier to read in the log without backticks.
    if not re.search(r"[*`<>&|~\\[\]$]|://|\b_|_\b|^\s*$", text):
        return text
    ticks = "`" * (_longest_backticks(text) + 1)
    return f"{ticks} {text} {ticks}"


def _longest_backticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
