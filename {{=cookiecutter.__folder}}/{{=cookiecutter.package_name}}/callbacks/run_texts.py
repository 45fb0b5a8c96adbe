"""Model, environment and config of a run as text, in TensorBoard and in the log file."""

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from ..runs.layers import describe_model
from ..runs.loading import CONFIG
from ..runs.logs import FILE_ONLY
from ..runs.manifest import read_manifest

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
    rows += ["| {name} | {what} | {parameters:,} |".format(**layer) for layer in model["layers"]]
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
    rows += [f"| {name} | {value} |" for name, value in facts.items()]
    texts = {"environment": "\n".join(rows)}
    if diff:
        texts["git_diff"] = fenced(diff, "diff")
    return texts


def fenced(text: str, language: str) -> str:
    """A Markdown block of code."""
    return f"````{language}\n{text.rstrip()}\n````"
