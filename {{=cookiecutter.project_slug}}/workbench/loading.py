"""A finished run in one call, for a notebook: `from workbench import load_run`."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import LightningDataModule, LightningModule

from .assembly import build_data_for
from .rebuilding import rebuild
from .runs.checkpoints import CHECKPOINTS
from .runs.config import CONFIG, load_config
from .runs.manifest import read_manifest
from .runs.trusted_targets import check_data


@dataclass(frozen=True)
class Run:
    """A run's config, metrics, model and data.

    Attributes:
        directory: the run's folder.
        config: the run's config, all references resolved.
        metrics: `best`, `final` and `test`, each a dictionary of numbers.
        model: the model of the checkpoint, in evaluation mode.
        datamodule: the data, split as they were in the run.
    """

    directory: Path
    config: DictConfig
    metrics: dict[str, dict[str, float]]
    model: LightningModule
    datamodule: LightningDataModule


def load_run(
    directory: str | Path, checkpoint: str | None = None, trust_config: bool = False
) -> Run:
    """Load a run with its model and its data.

    Args:
        directory: the run's folder.
        checkpoint: "best" or "last"; with averaged weights also "swa" or "ema". None is the best,
            or the last of a run without an objective.
        trust_config: whether the run's `config.yaml` may name anything to import and call, instead
            of only models, datamodules, optimizers and schedulers. With True, what it names is run.

    Raises:
        UserError: there is no run, it has no such checkpoint, or its config cannot be trusted.
    """
    directory = Path(directory)
    config = load_config(directory)
    if checkpoint is None:
        has_objective = OmegaConf.select(config, "objective.metric") is not None
        checkpoint = "best" if has_objective else "last"
    model = load_model(directory / CHECKPOINTS / f"{checkpoint}.ckpt", trust_config)
    if not trust_config:
        check_data(config, directory / CONFIG)
    return Run(
        directory=directory,
        config=config,
        metrics=read_manifest(directory).get("metrics", {}),
        model=model,
        datamodule=build_data_for(model, config),
    )


def load_model(path: str | Path, trust_config: bool = False) -> LightningModule:
    """The model of a checkpoint, on the CPU and in evaluation mode.

    Args:
        path: the checkpoint.
        trust_config: whether the `config.yaml` of its run may name anything, see `load_run`.

    Raises:
        UserError: the file is not a checkpoint of this project, or its model cannot be rebuilt.
    """
    return rebuild(path, trust_config).model
