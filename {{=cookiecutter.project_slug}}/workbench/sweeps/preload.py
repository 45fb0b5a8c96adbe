"""Work that is done ahead of the trials: imports, and reading what never changes.

No trainer and no CUDA tensor is created here: each trial initializes CUDA itself, on its own GPUs.
"""
# ruff: noqa: E402

import gc

# Imports create hardly any garbage, and collecting it takes a sixth of their time.
gc.disable()

import atexit
import inspect
import linecache
import logging
import os
import platform
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import tensorboard.plugins.hparams.api_pb2
import tensorboard.plugins.hparams.metadata
import tensorboard.plugins.hparams.plugin_data_pb2  # noqa: F401
import torch
import torch.utils.serialization
import torch.utils.tensorboard
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from lightning_fabric.utilities import registry, seed
from lightning_utilities.core.imports import RequirementCache
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.trainer.connectors.logger_connector.result import _Metadata, _Sync
from sklearn.model_selection import train_test_split
from torch import nn
from torchmetrics import MeanMetric, Metric

from .. import callbacks, dry_run, evaluation, seeding, training_run  # noqa: F401
from ..config_checks import check_arguments, check_top_level
from ..models.metrics import SOURCES, classes_of
from ..project import LIBRARY, project
from ..runs.code_state import remember_code
from ..runs.config import plain
from ..runs.directory import register_resolvers
from ..runs.environment import versions
from ..runs.summary import CONSOLE, print_metrics
from . import reporter, trial, workers  # noqa: F401
from .processes import forget_huge_pages, ignore_termination

ignore_termination()
forget_huge_pages()


def classes_below(kind: type[Any]) -> Iterator[type[Any]]:
    """All subclasses of a class."""
    for below in kind.__subclasses__():
        yield below
        yield from classes_below(below)


def configure_logging_once(config: DictConfig) -> None:
    """Configure the loggers of a trial, without its file, and undo it."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    content = plain(config)
    names = content.get("handlers", {})
    content["handlers"] = {name: {"class": "logging.NullHandler"} for name in names}
    try:
        configure_log(OmegaConf.create(content))
    finally:
        root.setLevel(level)
        root.handlers = handlers


def read_config() -> None:
    """Compose and check a config as a trial does: the first one takes longer than all others."""
    with initialize_config_dir(str(project().configs), version_base="1.3"):
        config = compose("train", ["hydra.runtime.output_dir=."], return_hydra_config=True)
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    configure_logging_once(config.hydra.job_logging)
    task = workers.task_of(config)
    plain(task)
    check_top_level(task)
    check_arguments(task)
    HydraConfig.instance().cfg = None


def look_for_packages() -> None:
    """Ask the metadata of installed packages what each trainer asks them."""
    parts = ("accelerators", "loggers", "plugins")
    names = tuple(f"lightning_fabric.{part}" for part in parts)
    modules = [module for name, module in sys.modules.items() if name.startswith(names)]
    for value in [value for module in modules for value in vars(module).values()]:
        if isinstance(value, RequirementCache):
            name = (value.module or "").partition(".")[0]
            # One that is there would be imported, which is for the trial to do.
            if not name or find_spec(name) is None:
                bool(value)


def record_callers() -> None:
    """Read the source files that torch quotes for every seed, in case that a GPU fails later."""
    # The seed stays the same.
    torch.manual_seed(torch.initial_seed())
    for module in (seed, seeding, training_run, trial, workers):
        linecache.getlines(str(module.__file__))


# The trial says what is missing. The others are imported where they are used.
for name in (f"{project().package}.training", "fsspec.implementations.chained"):
    with suppress(ImportError):
        import_module(name)
register_resolvers()
setup_globals()
# The trial says what is wrong with a config; the command may replace it.
with suppress(Exception):
    read_config()
look_for_packages()
record_callers()
versions()
# It runs `uname` to name the processor.
platform.platform()
# Each trainer would look for callbacks in the metadata of all installed packages.
registry.entry_points = cache(registry.entry_points)  # type: ignore[assignment]
registry.entry_points(group="pytorch_lightning.callbacks_factory")
remember_code(project().root)
with CONSOLE.capture():
    print_metrics("", {"best": {"val/loss": 0.5}})
# At its first call scikit-learn looks for installed dataframe packages.
train_test_split([0, 1, 0, 1], stratify=[0, 1, 0, 1], test_size=2)
# The first metric looks for versions of packages.
MeanMetric()
# Lightning often asks whether something is a metric. The first answer for a class takes long, as
# it is looked for among all metrics.
own = (project().package, LIBRARY, "torchmetrics.collections")
layers = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout, nn.Flatten, nn.Sequential)
kinds = [kind for kind in classes_below(nn.Module) if kind.__module__.startswith(own)]
# What metrics and their records consist of, and what is logged.
values = (type(None), bool, int, float, str, dict, set, OrderedDict, torch.device, torch.dtype)
others = (FunctionType, MethodType, BuiltinFunctionType, inspect.Signature, type(Path()))
for kind in (*values, *others, _Metadata, _Sync, nn.ModuleDict, *layers, *kinds):
    issubclass(kind, Metric)
    issubclass(kind, Mapping)
    issubclass(kind, MutableMapping)
for name in SOURCES:
    classes_of(name)
# Otherwise a collection in a trial would touch, and so copy, the memory of all imports.
gc.freeze()
gc.enable()
# Skip the exit handlers of imported packages, some of which print.
atexit.register(os._exit, 0)
