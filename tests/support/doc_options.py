"""Whether a project takes options, as its commands find out before they import anything heavy."""

from types import ModuleType

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from ..conftest import BakedProject
from .modules import project_module


def check_options(project: BakedProject, config: str, options: list[str]) -> None:
    """Compose a config with the options, and read those of the sweeper as a sweep does.

    Raises:
        Exception: Hydra's or the project's own, of an option that means nothing.
    """
    with initialize_config_dir(str(project.root / "configs"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration(config, options, RunMode.MULTIRUN)
        if any(option.startswith(("hydra.sweeper", "hydra/sweeper")) for option in options):
            import_module(project, "sweeps.settings").read_settings(master.hydra.sweeper)


def check_search_space(project: BakedProject, lines: dict[str, object]) -> None:
    """Compose the first config and the last of a search space.

    Raises:
        Exception: Hydra's or the project's own, of a line that means nothing.
    """
    with initialize_config_dir(str(project.root / "configs"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        grammar = import_module(project, "sweeps.space")
        space, fixed = grammar.parse_space(lines, [], loader)
        assert fixed == []
        assert len(space.parameters) == len(lines)
        for pick in (lambda p: p.first(), lambda p: p.points()[-1] if p.choices else p.first()):
            options = grammar.options_of(space.sample(pick))
            loader.load_configuration("train", options, RunMode.RUN)


def import_module(project: BakedProject, name: str) -> ModuleType:
    """Import a module of the project's package into this process."""
    package = next(project.root.glob("*/training.py")).parent.name
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(project.root)
        return project_module(package, name)
