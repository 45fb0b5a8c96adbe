"""The config of a command is composed once, and means what Hydra would make of it."""

from pathlib import Path
from typing import Any

import omegaconf.base
from omegaconf import OmegaConf

from ..conftest import BakedProject
from ..support.sweeps import SMALL
from ..support.template_package import Part
from ..support.training_runs import script

COUNT = """
import runpy, sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
compose, count = ConfigLoaderImpl._load_configuration_impl, []
def composed(*words, **names):
    count.append(1)
    return compose(*words, **names)
ConfigLoaderImpl._load_configuration_impl = composed
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("composed", len(count))
"""


def test_config_is_composed_once(demo: BakedProject, tmp_path: Path) -> None:
    """A second time would cost a sixth of a second at every start."""
    folder = f"hydra.run.dir={tmp_path}/run"
    done = script(demo, "-c", COUNT, "train.py", "model.net.name=cnnn", folder, check=False)
    assert "cnnn" in done.stderr
    assert done.stdout.endswith("composed 1\n")


def test_mistake_is_not_composed_again(demo: BakedProject) -> None:
    """Once with the mistake, and once without it for the name that was meant."""
    done = script(demo, "-c", COUNT, "train.py", "trainer.max_epoch=9", check=False)
    assert "did you mean 'trainer.max_epochs'" in done.stderr
    assert done.stdout.endswith("composed 2\n")


def test_config_can_ask_for_a_sweep(demo: BakedProject, tmp_path: Path) -> None:
    """Hydra sweeps without -m if the config says so."""
    options = ("hydra.mode=MULTIRUN", f"hydra.sweep.dir={tmp_path}", "optimizer.lr=0.1,0.2")
    script(demo, "train.py", *SMALL, *options, "hydra.sweeper.study_name=asked")
    assert (tmp_path / "asked" / "leaderboard.csv").is_file()


def test_option_that_sets_the_mode_is_obeyed(demo: BakedProject, tmp_path: Path) -> None:
    """A config that sweeps by itself can be asked for a single run."""
    options = ("hydra.mode=RUN", f"hydra.run.dir={tmp_path}/run", "trainer.limit_train_batches=1")
    script(demo, "train.py", *SMALL[:1], *options, "trainer.max_epochs=1", "logger=none")
    assert (tmp_path / "run" / "run.json").is_file()


def test_parsed_references_follow_the_config(package: Part) -> None:
    """Only the text of a reference is remembered, never what it resolved to."""
    package("composing").parse_references_once()
    parse: Any = vars(omegaconf.base)["parse"]
    config = OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": "${.c} of ${a}"}})
    other = OmegaConf.create({"a": 7, "c": "${a}"})
    assert (config.b.c, config.b.d, other.c) == (1, "1 of 1", 7)
    parsed = parse.cache_info().misses
    config.a = 2
    assert (config.b.c, config.b.d, other.c) == (2, "2 of 2", 7)
    assert parse.cache_info().misses == parsed
