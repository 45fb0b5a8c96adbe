"""Every file in configs/ can be selected, and every experiment can start."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from workbench.config_checks import check_arguments, check_top_level
from workbench.sweeps import space as grammar

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
GROUPS = "data model optimizer scheduler trainer callbacks profiler logger debug".split()
CHOICES = [(path.parent.name, path.stem) for g in GROUPS for path in (CONFIGS / g).glob("*.yaml")]
SPACES = [path.stem for path in (CONFIGS / "search_space").glob("*.yaml")]
EXPERIMENTS = [path.stem for path in (CONFIGS / "experiment").glob("*.yaml")]

Configure = Callable[..., DictConfig]
Package = Callable[[str], Any]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes(group: str, choice: str, configure: Configure) -> None:
    """A file that does not compose is only noticed when somebody needs it."""
    config = configure("train", f"{group}={choice}")
    assert group in config or group == "debug" or group in config.trainer


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_names_existing_arguments(
    experiment: str, configure: Configure, package: Package
) -> None:
    """A misspelt argument in an experiment would stop it after the data were loaded."""
    cfg = configure("train", f"experiment={experiment}")
    check_top_level(cfg)
    check_arguments(cfg)


@pytest.mark.parametrize("name", SPACES)
def test_every_search_space_varies_options_that_exist(name: str, package: Package) -> None:
    """A sweep that varies a misspelt option would end before its first trial."""
    # A space named as an experiment is for that one.
    experiment = [f"experiment={name}"] if name in EXPERIMENTS else []
    chosen = [*experiment, f"search_space={name}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("train", chosen, RunMode.MULTIRUN)
        lines = dict(master.hydra.sweeper.search_space)
        space, _ = grammar.parse_space(lines, [], loader)
        first = space.sample(lambda parameter: parameter.first())
        options = [*chosen, *grammar.options_of(first)]
        loader.load_configuration("train", options, RunMode.RUN)
