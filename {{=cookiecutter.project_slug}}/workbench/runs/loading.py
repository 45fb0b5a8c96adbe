"""A finished run in one call, for a notebook."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from .manifest import CONFIG, read_manifest

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, LightningModule


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
    model: "LightningModule"
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


def load_run(
    directory: str | Path, checkpoint: str | None = None, trust_config: bool = False
) -> Run:
    """Load a run, its model and its data, in one call.

    Args:
        directory: the run's folder.
        checkpoint: "best" or "last"; with averaged weights also "swa" or "ema". None is the best,
            or the last of a run without an objective.
        trust_config: whether the run's `config.yaml` may name anything to import and call, instead
            of models, datamodules, optimizers and schedulers alone. True runs what it names.

    Raises:
        UserError: there is no run, it has no such checkpoint, or its config cannot be trusted.
    """
    from ..assembly import build_data_for
    from .checkpoints import load_model

    directory = Path(directory)
    config = load_config(directory)
    if checkpoint is None:
        has_objective = OmegaConf.select(config, "objective.metric") is not None
        checkpoint = "best" if has_objective else "last"
    model = load_model(directory / "checkpoints" / f"{checkpoint}.ckpt", trust_config)
    if not trust_config:
        check_data(config, directory / CONFIG)
    return Run(
        directory=directory,
        config=config,
        metrics=read_manifest(directory).get("metrics", {}),
        model=model,
        datamodule=build_data_for(model, config),
    )


def check_data(config: DictConfig, source: str | Path) -> None:
    """Refuse a run's config whose data are not a datamodule, see `check_targets`.

    Raises:
        UserError: it names something else.
    """
    from .trusted_targets import check_targets

    check_targets(OmegaConf.create({"data": config.get("data")}), source)


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
