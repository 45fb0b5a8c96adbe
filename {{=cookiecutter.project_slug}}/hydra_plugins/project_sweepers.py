"""The Hydra face of the sweeps: Hydra finds sweepers in the namespace hydra_plugins only.

Keep this folder free of __init__.py, and this module of imports that take time: Hydra imports it
at every start.
"""

from importlib.util import find_spec
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProjectSweeper(Sweeper):
    """Tunes; `configs/hydra/sweeper/` lists the options, and has a file for each engine."""

    def __init__(self, **options: object) -> None:
        # Read from the config in `setup`, where they are still plain values.
        pass

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keep what the sweep needs."""
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep of the command."""
        from workbench.sweeps.start import sweep

        assert self.hydra_context is not None
        assert self.config is not None
        sweep(self.hydra_context.config_loader, self.config, arguments)


class ApplicationSweeper(ProjectSweeper):
    """Tunes any Hydra application: `hydra/sweeper=workbench`, of the installed library."""

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep of the command."""
        from workbench.cli import one_sentence_errors
        from workbench.sweeps.application import adopt

        assert self.task_function is not None
        assert self.config is not None
        with one_sentence_errors():
            adopt(self.task_function, self.config)
            super().sweep(arguments)


class InstalledConfigs(SearchPathPlugin):
    """Offers the sweeper's configs to every application, if the library is installed."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append the folder of the configs; that of a project has its own instead."""
        library = find_spec("workbench")
        for folder in (library and library.submodule_search_locations) or ():
            configs = Path(folder, "sweeps", "configs")
            if configs.is_dir():
                # The samplers of another installed sweeper keep their names.
                search_path.append("schema", "structured://")
                search_path.append("workbench", f"file://{configs}")
