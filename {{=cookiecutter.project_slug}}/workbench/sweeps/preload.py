"""Work that is done ahead of the trials: imports, and reading what never changes.

No trainer and no CUDA tensor is created here: each trial initializes CUDA itself, on its own GPUs.
"""
# ruff: noqa: E402

import gc

# Imports create hardly any garbage, and collecting it takes a sixth of their time.
gc.disable()

import atexit
import os
from contextlib import suppress
from functools import cache
from importlib import import_module

import tensorboard.plugins.hparams.api_pb2
import tensorboard.plugins.hparams.metadata
import tensorboard.plugins.hparams.plugin_data_pb2  # noqa: F401
import torch.utils.serialization
import torch.utils.tensorboard  # noqa: F401
from hydra import compose, initialize_config_dir
from lightning_fabric.utilities import registry
from sklearn.model_selection import train_test_split

from .. import callbacks, dry_run, evaluation, training_run  # noqa: F401
from ..config_checks import check_arguments, check_top_level
from ..project import project
from ..runs.code_state import remember_code
from ..runs.config import plain
from ..runs.directory import register_resolvers
from ..runs.environment import versions
from . import reporter, trial  # noqa: F401
from .processes import ignore_termination

ignore_termination()

# The trial says what is missing.
with suppress(ImportError):
    import_module(f"{project().package}.training")
register_resolvers()
# Parsing the first option or interpolation takes longer than parsing all others.
with initialize_config_dir(str(project().configs), version_base="1.3"):
    config = compose("train", ["paths.output_dir=."])
plain(config)
check_top_level(config)
check_arguments(config)
versions()
# Each trainer would look for callbacks in the metadata of all installed packages.
registry.entry_points = cache(registry.entry_points)  # type: ignore[assignment]
registry.entry_points(group="pytorch_lightning.callbacks_factory")
remember_code(project().root)
# At its first call scikit-learn looks for installed dataframe packages.
train_test_split([0, 1])
# Otherwise a collection in a trial would touch, and so copy, the memory of all imports.
gc.freeze()
gc.enable()
# Skip the exit handlers of imported packages, some of which print.
atexit.register(os._exit, 0)
