"""Model, environment and config of a run as text, in TensorBoard and in the log file."""

import logging
import re
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from ..runs.config import CONFIG
from ..runs.environment import describe_model
from ..runs.logs import FILE_ONLY
from ..runs.manifest import read_manifest
from ..user_text import one_line

log = logging.getLogger(__name__)


class RunTexts(Callback):
    """Writes what a run is made of into TensorBoard's TEXT tab and into the run's log.

    Args:
        directory: the run's folder.
    """

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the texts."""
        config = self.directory / CONFIG
        texts = {"model": describe_layers(pl_module)}
        texts |= describe_environment(read_manifest(self.directory))
        if config.is_file():
            texts["config"] = fenced(config.read_text("utf-8"), "yaml")
        for name, text in texts.items():
            log.info("%s\n%s", name, text, extra=FILE_ONLY)
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_text(name, text, trainer.global_step)


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


def describe_environment(manifest: dict[str, Any]) -> dict[str, str]:
    """Texts about machine, packages and code, from a run's `run.json`."""
    git = dict(manifest.get("git") or {})
    diff = git.pop("diff", "")
    facts: dict[str, Any] = {"command": " ".join(manifest.get("command") or [])}
    facts |= {f"git {name}": value for name, value in git.items()}
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
    """A Markdown block of code."""
    fence = "`" * max(4, _longest_backticks(text) + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def literal(text: str) -> str:
    """A cell of a Markdown table that shows the text as it is."""
    text = one_line(text)
    # Most texts mean nothing to Markdown, and are easier to read in the log as they are.
    if not re.search(r"[*`<>&|~\\[\]$]|://|\b_|_\b|^\s*$", text):
        return text
    ticks = "`" * (_longest_backticks(text) + 1)
    return f"{ticks} {text} {ticks}"


def _longest_backticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
