"""Composing the config of a command once, where Hydra does it twice, and parsing references once.

Hydra 1.3 composes a config to find out `hydra.mode`, and again to run: a sixth of a second each
time. Later versions find out the mode in another way.
"""

from contextlib import suppress
from functools import lru_cache
from typing import Any

import hydra
import omegaconf.base
from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.grammar_parser import parse


def compose_once() -> None:
    """Let Hydra 1.3 run with the config that it has composed to find out the mode."""
    if hydra.__version__.startswith("1.3."):
        Hydra.get_mode = find_mode  # type: ignore[assignment,method-assign]


def parse_references_once() -> None:
    """Let OmegaConf parse each reference such as `${paths.log_dir}/${name}` once.

    It does so at every access, which takes a millisecond, and half a dozen times per run. The tree
    that results depends on the text alone, and resolving it leaves it unchanged.
    """
    omegaconf.base.parse = lru_cache(maxsize=1000)(parse)


def find_mode(instance: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """The mode that the config sets; None if it sets none, or if there is an error to report."""
    loader: Any = instance.config_loader
    # Options with a single value mean the same in both modes, and others only in a sweep.
    likely = RunMode.MULTIRUN if _has_several(overrides) else RunMode.RUN
    mistake: Exception | None = None
    try:
        config = loader.load_configuration(config_name, overrides, likely)
    except Exception as error:
        mistake = error

    def load_again(
        config_name: str | None, overrides: list[str], run_mode: RunMode, **more: Any
    ) -> DictConfig:
        del loader.load_configuration
        if likely not in (RunMode.RUN, run_mode):
            return loader.load_configuration(config_name, overrides, run_mode, **more)
        if mistake is not None:
            # Composed again, the config would contain the same mistake.
            raise mistake
        return config

    loader.load_configuration = load_again
    return None if mistake is not None else config.hydra.mode


def _has_several(overrides: list[str]) -> bool:
    """Whether an option lists several values."""
    with suppress(Exception):
        # Parsing takes some milliseconds an option.
        lists = [word for word in overrides if {",", "("} & set(word)]
        parsed = OverridesParser.create().parse_overrides(lists)
        return any(override.is_sweep_override() for override in parsed)
    return False
