"""Work that is done ahead of the trials: imports, and reading what never changes.

No trainer and no CUDA tensor is created here: each trial initializes CUDA itself, on its own GPUs.
"""
# ruff: noqa: E402

import gc

# Imports create hardly any garbage, and collecting it takes a sixth of their time.
gc.disable()

import atexit
import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import tensorboard.plugins.hparams.api_pb2
import tensorboard.plugins.hparams.metadata
import tensorboard.plugins.hparams.plugin_data_pb2  # noqa: F401
import torch.utils.serialization
import torch.utils.tensorboard  # noqa: F401
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import setup_globals
from lightning_fabric.utilities import registry
from omegaconf import OmegaConf
from sklearn.model_selection import train_test_split
from torch import nn
from torchmetrics import MeanMetric, Metric

from .. import callbacks, dry_run, evaluation, training_run  # noqa: F401
from ..config_checks import check_arguments, check_top_level
from ..project import LIBRARY, project
from ..runs.code_state import remember_code
from ..runs.config import plain
from ..runs.directory import register_resolvers
from ..runs.environment import versions
from . import reporter, trial  # noqa: F401
from .processes import forget_huge_pages, ignore_termination
from .workers import task_of

ignore_termination()
forget_huge_pages()


def classes_below(kind: type[Any]) -> Iterator[type[Any]]:
    """All subclasses of a class."""
    for below in kind.__subclasses__():
        yield below
        yield from classes_below(below)


def read_config() -> None:
    """Compose and check a config as a trial does: the first one takes longer than all others."""
    with initialize_config_dir(str(project().configs), version_base="1.3"):
        config = compose("train", ["hydra.runtime.output_dir=."], return_hydra_config=True)
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    OmegaConf.to_container(config.hydra.job_logging, resolve=True)
    task = task_of(config)
    plain(task)
    check_top_level(task)
    check_arguments(task)
    HydraConfig.instance().cfg = None


# The trial says what is missing. The others are imported where they are used.
for name in (f"{project().package}.training", "fsspec.implementations.chained"):
    with suppress(ImportError):
        import_module(name)
register_resolvers()
setup_globals()
# The trial says what is wrong with a config; the command may replace it.
with suppress(Exception):
    read_config()
versions()
# It runs `uname` to name the processor.
platform.platform()
# Each trainer would look for callbacks in the metadata of all installed packages.
registry.entry_points = cache(registry.entry_points)  # type: ignore[assignment]
registry.entry_points(group="pytorch_lightning.callbacks_factory")
remember_code(project().root)
# At its first call scikit-learn looks for installed dataframe packages.
train_test_split([0, 1])
# The first metric looks for versions of packages.
MeanMetric()
# Lightning often asks whether something is a metric. The first answer for a class takes long, as
# it is looked for among all metrics.
own = (project().package, LIBRARY, "torchmetrics.collections")
layers = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Flatten, nn.Sequential)
kinds = [kind for kind in classes_below(nn.Module) if kind.__module__.startswith(own)]
for kind in (type(None), dict, nn.ModuleDict, *layers, *kinds):
    issubclass(kind, Metric)
# Otherwise a collection in a trial would touch, and so copy, the memory of all imports.
gc.freeze()
gc.enable()
# Skip the exit handlers of imported packages, some of which print.
atexit.register(os._exit, 0)
