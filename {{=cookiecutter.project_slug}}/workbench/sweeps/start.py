"""The start of a sweep, which imports little: the server of the trials is started first."""

import gc
import sys

from hydra.core.config_loader import ConfigLoader
from hydra.utils import get_class
from omegaconf import DictConfig

from .processes import start_server, stop_server
from .settings import read_settings
from .tracking import packages


def sweep(config_loader: ConfigLoader, master: DictConfig, arguments: list[str]) -> None:
    """Run or continue the sweep of a command.

    Args:
        config_loader: composes the configs of the trials.
        master: the config of the command, including `hydra.sweeper`.
        arguments: the options of the command.

    Raises:
        UserError: no trial can work, or all trials failed with the same error.
    """
    # The server imports for seconds, in which this process imports the rest and checks the command.
    # That of an application runs the user's script, and therefore waits for a valid command.
    if not read_settings(master.hydra.sweeper).is_application:
        start_server(packages(master))
    try:
        from .command import make_plan

        plan = make_plan(config_loader, master, arguments)
        kind = get_class(plan.engine.sweep)
    except BaseException:
        stop_server()
        raise
    try:
        kind(plan).run()
    finally:
        # For applications, as `cli.run` does it for projects: an interpreter that exits searches
        # all objects for garbage, three times, which takes half a second. nanobind, by which Triton
        # is built, reports what is never collected as leaks.
        if "triton" not in sys.modules:
            gc.freeze()
