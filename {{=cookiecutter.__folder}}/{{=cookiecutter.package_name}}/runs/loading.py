"""A finished run in one call, for a notebook."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .manifest import read_manifest

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule

    from ..models.base import BaseModule

CONFIG = "config.yaml"


@dataclass(frozen=True)
class Run:
    """A run's config, metrics, model and data.

    Attributes:
        directory: the run's folder.
        config: the config it ran with, all references resolved.
        metrics: `best`, `final` and `test`, each a dictionary of numbers.
        model: the model of the checkpoint, ready to predict.
        datamodule: the data, split as they were in the run.
    """

    directory: Path
    config: DictConfig
    metrics: dict[str, dict[str, float]]
    model: "BaseModule"
    datamodule: "LightningDataModule"


def load_config(directory: Path) -> DictConfig:
    """The config of the run in `directory`.

    Raises:
        UserError: there is no run.
    """
    path = directory / CONFIG
    if not path.is_file():
        raise UserError(f"{directory} is not the folder of a run: it has no {CONFIG}.")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config


def load_run(directory: str | Path, checkpoint: str = "best") -> Run:
    """Load a run, its model and its data, in one call.

    Args:
        directory: the run's folder.
        checkpoint: "best" or "last"; with averaged weights also "swa" or "ema".

    Raises:
        UserError: there is no run, or it has no such checkpoint.
    """
    from ..training import build_datamodule
    from .checkpoints import load_model

    directory = Path(directory)
    config = load_config(directory)
    return Run(
        directory=directory,
        config=config,
        metrics=read_manifest(directory).get("metrics", {}),
        model=load_model(directory / "checkpoints" / f"{checkpoint}.ckpt"),
        datamodule=build_datamodule(config),
    )


def config_of_checkpoint(ckpt_path: Path) -> DictConfig | None:
    """The config of the run that a checkpoint lies in, None if it was moved away."""
    for folder in ckpt_path.resolve().parents[:2]:
        if (folder / CONFIG).is_file():
            return load_config(folder)
    return None


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """A config as nested dictionaries of plain values, with its references resolved."""
    content = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
