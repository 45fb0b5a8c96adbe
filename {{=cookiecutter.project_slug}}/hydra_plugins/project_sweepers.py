"""The Hydra face of the sweeps: Hydra finds sweepers in the namespace hydra_plugins only.

Keep this folder free of __init__.py, and this module of imports that take time: Hydra imports it
at every start.
"""

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
        self.config = config

    def sweep(self, arguments: list[str]) -> None:
        """Run the sweep of the command."""
        from workbench.sweeps.loop import sweep

        assert self.hydra_context is not None
        assert self.config is not None
        sweep(self.hydra_context.config_loader, self.config, arguments)
