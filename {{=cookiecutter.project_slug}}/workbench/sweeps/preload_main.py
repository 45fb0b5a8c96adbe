"""Work that the fork server does once for an application: it imports the main module.

As `multiprocessing` does in every process that it spawns: children find the module imported.
"""

import json
import os
import signal
from multiprocessing import spawn

from hydra import compose, initialize

from . import trial  # noqa: F401
from .workers import MAIN

# Only the sweep handles it; see `preload.py`.
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

spawn.prepare(json.loads(os.environ[MAIN]))
del os.environ[MAIN]
# Composing the first config takes longer than all others: parsers are built, plugins are found.
with initialize(version_base="1.3", config_path=None):
    compose(overrides=["+x=1"])
