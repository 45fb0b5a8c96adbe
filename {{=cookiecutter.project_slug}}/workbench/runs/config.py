"""The config of a run: as it is stored, and what it says before the run starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..checks import check_integer
from ..errors import UserError

CONFIG = "config.yaml"
# Size and fingerprint of each split.
Fingerprints = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class CheckedRun:
    """What is known of a run before it is trained.

    A sweep receives it from another process, and must not import torch to read it.

    Attributes:
        metrics: the names of the metrics that it logs; None if they are not known.
        data: size and fingerprint of each split.
        useless: options that have no effect, such as `optimizer.lr`.
    """

    metrics: list[str] | None
    data: Fingerprints
    useless: set[str]


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


def config_path(ckpt_path: str | Path) -> Path | None:
    """The config of the run that a checkpoint belongs to; None if it was moved away."""
    folders = Path(ckpt_path).resolve().parents[:2]
    return next((folder / CONFIG for folder in folders if (folder / CONFIG).is_file()), None)


def config_of_checkpoint(ckpt_path: str | Path) -> DictConfig | None:
    """The content of the file at `config_path`."""
    path = config_path(ckpt_path)
    return None if path is None else load_config(path.parent)


def plain(config: Any, resolve: bool = True) -> dict[str, Any]:
    """A config as nested dictionaries of plain values, with its references resolved."""
    content = OmegaConf.to_container(config, resolve=resolve)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def task_options(hydra: Any) -> list[str]:
    """The options of the command as they were given.

    A value that refers to another one, such as `dirpath='${paths.output_dir}/kept'`, is not
    replaced: it may have another value in a run that this command starts.

    Args:
        hydra: Hydra's own config.
    """
    options = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    assert isinstance(options, list)
    return [str(option) for option in options]


def flatten(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested dictionaries by their full names, such as `optimizer.lr`.

    An empty dictionary counts as a value.
    """
    values: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict) and value:
            values |= flatten(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values


def folds_to_train(cfg: DictConfig) -> int | None:
    """The number of folds if all of them are to be trained; None for a single run.

    A custom datamodule takes part if its config has the options `folds` and `fold`.

    Raises:
        UserError: `data.folds` is not an integer of at least 2.
    """
    data = cfg.get("data")
    if not isinstance(data, DictConfig) or "fold" not in data or data.fold is not None:
        return None
    folds: int | None = data.get("folds")
    if folds is not None:
        check_integer("data.folds", folds, 2)
    return folds
