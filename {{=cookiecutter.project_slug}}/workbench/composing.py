"""Composing the config of a command once, where Hydra does it twice.

Hydra composes a config to find out `hydra.mode`, and again to run: a sixth of a second each time.
"""

from contextlib import suppress
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

usual_mode = Hydra.get_mode


def compose_once() -> None:
    """Let Hydra run with the config that it has composed to find out the mode."""
    Hydra.get_mode = find_mode  # type: ignore[assignment,method-assign]


def find_mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """The mode that the config sets; None if it sets none, or if there is an error to report."""
    loader: Any = hydra.config_loader
    try:
        config = loader.load_configuration(config_name, overrides, RunMode.RUN)
    except Exception:
        # An option with several values is an error outside a sweep. Others are reported later.
        return usual_mode(hydra, config_name, overrides) if _has_several(overrides) else None

    def load_again(*_: object, **__: object) -> DictConfig:
        del loader.load_configuration
        return config

    # Both modes compose the same from options with a single value.
    loader.load_configuration = load_again
    return config.hydra.mode


def _has_several(overrides: list[str]) -> bool:
    """Whether an option lists several values."""
    with suppress(Exception):
        parsed = OverridesParser.create().parse_overrides(overrides)
        return any(override.is_sweep_override() for override in parsed)
    return False
