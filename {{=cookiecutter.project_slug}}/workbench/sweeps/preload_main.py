"""Work that is done ahead of the trials of an application: importing its main module.

As `multiprocessing` does in every process that it spawns: children find the module imported.
"""

import json
import os
from multiprocessing import spawn

from hydra import compose, initialize

from . import trial  # noqa: F401
from .processes import MAIN, ignore_termination

ignore_termination()

spawn.prepare(json.loads(os.environ[MAIN]))
del os.environ[MAIN]
# Composing the first config takes longer than all others: parsers are built, plugins are found.
with initialize(version_base="1.3", config_path=None):
    compose(overrides=["+x=1"])
