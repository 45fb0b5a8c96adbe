"""Work that is done ahead of the trials of an application: importing its main module.

As `multiprocessing` does in every process that it spawns: children find the module imported.
"""
# ruff: noqa: E402

import gc

# Imports create hardly any garbage, and collecting it takes a sixth of their time.
gc.disable()

import json
import os
from multiprocessing import spawn

from hydra import compose, initialize
from omegaconf import OmegaConf

from ..composing import compose_faster
from . import trial  # noqa: F401
from .processes import MAIN, forget_huge_pages, ignore_termination

ignore_termination()
forget_huge_pages()

spawn.prepare(json.loads(os.environ[MAIN]))
del os.environ[MAIN]
compose_faster()
# The first config takes longer than all others: parsers are built, plugins and classes are found.
with initialize(version_base="1.3", config_path=None):
    config = compose(overrides=["+x=1", "hydra.runtime.output_dir=."], return_hydra_config=True)
OmegaConf.to_container(config.hydra.job_logging, resolve=True)
OmegaConf.to_yaml(config)
# Otherwise a collection in a trial would touch, and so copy, the memory of all imports.
gc.freeze()
gc.enable()
