"""What the fork server does once, so that no trial has to: imports, and reading what never changes.

No trainer and no CUDA tensor is made here: each trial starts CUDA itself, on its own GPUs.
"""
# ruff: noqa: E402

import gc

# Imports leave next to no garbage, and looking for it takes a tenth of their time.
gc.disable()

import atexit
import os
import signal

import tensorboard.plugins.hparams.api_pb2
import tensorboard.plugins.hparams.metadata
import tensorboard.plugins.hparams.plugin_data_pb2  # noqa: F401
import torch.utils.serialization
import torch.utils.tensorboard  # noqa: F401
from hydra import compose, initialize_config_dir
from sklearn.model_selection import train_test_split

from .. import callbacks, comparison, dry_run, evaluation, training_run  # noqa: F401
from ..config_checks import check_arguments, check_top_level
from ..project import project
from ..runs.config import plain
from ..runs.directory import register_resolvers
from ..runs.environment import versions
from . import reporter, trial  # noqa: F401

# The end of a cluster job is told to all its processes, the server and the trials among them. Only
# the sweep is to listen, and lets the epochs end; Lightning would end them at once.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

register_resolvers()
# The first parse of an option or a reference takes most of the time of all of them.
with initialize_config_dir(str(project().configs), version_base="1.3"):
    config = compose("train", ["paths.output_dir=."])
plain(config)
check_top_level(config)
check_arguments(config)
versions()
# At its first call scikit-learn looks for the table packages that it may be given.
train_test_split([0, 1])
# A collection in a trial would otherwise look at all that was imported, and so copy its memory.
gc.freeze()
gc.enable()
# The server ends with the sweep: some of the imports would clean up in public.
atexit.register(os._exit, 0)
