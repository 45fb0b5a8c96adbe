"""Composing and writing configs without the work that Hydra and OmegaConf do twice or for nothing.

Composing the config of a training takes a tenth of a second: 40 files are read and merged.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import cache, lru_cache
from typing import Any

import hydra
import omegaconf._utils
import omegaconf.base
import omegaconf.omegaconf
import yaml
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.default_element import InputDefault
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.grammar_parser import parse

# Only Hydra 1.3 has it.
_known_choices: Any = getattr(defaults_list, "_create_interpolation_map", None)


def compose_faster() -> None:
    """Stop Hydra 1.3 from repeating itself, and OmegaConf 2.3 from writing YAML in Python.

    OmegaConf also parses each reference only once.
    """
    omegaconf.base.parse = omegaconf._utils.parse = _parse_once
    # OmegaConf 2.4 uses it itself.
    if yaml.__with_libyaml__ and omegaconf.__version__.startswith("2.3."):
        omegaconf.omegaconf.get_omega_conf_dumper = _fast_dumper
    if not hydra.__version__.startswith("1.3."):
        return
    # It composes a config to find out `hydra.mode`, and again to run.
    Hydra.get_mode = find_mode  # type: ignore[assignment,method-assign]
    # It copies all stored configs for each of the hundred lookups behind --help. The store is a
    # singleton, and 1.4 no longer copies it.
    ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
    ConfigLoaderImpl.get_group_options = group_options  # type: ignore[method-assign]
    defaults_list._create_interpolation_map = choices_for_references  # type: ignore[assignment]


@lru_cache(maxsize=1000)
def _parse_once(*args: Any, **options: Any) -> Any:
    """Parse a reference such as `${paths.log_dir}/${name}`, which OmegaConf does at every access.

    Parsing takes a millisecond, and half a dozen accesses happen per run. The tree that results
    depends on the text alone, and resolving it leaves it unchanged.
    """
    return parse(*args, **options)


@cache
def _fast_dumper() -> Any:
    """OmegaConf's rules with the emitter that is written in C.

    It writes the same text in a third of the time, except that it writes emojis as codes.
    """
    return type("FastDumper", (yaml.CDumper, omegaconf._utils.get_omega_conf_dumper()), {})


def group_options(
    self: ConfigLoaderImpl,
    group_name: str,
    results_filter: ObjectType | None = ObjectType.CONFIG,
    config_name: str | None = None,
    overrides: list[str] | None = None,
) -> list[str]:
    """The choices of a config group; Hydra copies the list of all folders for each group."""
    if config_name is None and not overrides:
        return self.repository.get_group_options(group_name, results_filter)
    _, repository = self._parse_overrides_and_create_caching_repo(config_name, overrides or [])
    return repository.get_group_options(group_name, results_filter)


def choices_for_references(
    overrides: Any, defaults: Sequence[InputDefault], self_added: bool
) -> DictConfig | None:
    """What `${model}` in the defaults of a file refers to; None for a file without references.

    Hydra makes a config of all choices for every file.
    """
    named = [default for default in defaults if not (default.is_self() or default.is_override())]
    if any(default.is_interpolation() for default in named):
        return _known_choices(overrides, list(defaults), self_added)
    return None


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
