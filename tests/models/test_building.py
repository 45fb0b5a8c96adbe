"""Parts are built from their configs, which stay as they were."""

from typing import Any

import pytest
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError

from ..support.template_package import Part


def make_config(**entries: Any) -> DictConfig:
    """A config as Hydra composes it: no other keys can be added."""
    config = OmegaConf.create({"a": [1, 2], "b": {"c": "${x}"}, "x": 3} | entries)
    OmegaConf.set_struct(config, True)
    return config


def test_parts_receive_plain_values(package: Part) -> None:
    """A checkpoint with containers of OmegaConf could not be loaded safely."""
    config = make_config(_target_="builtins.dict")
    before = OmegaConf.to_yaml(config)
    built = package("building").build(config)
    assert built == {"a": [1, 2], "b": {"c": 3}, "x": 3}
    assert (type(built["a"]), type(built["b"])) == (list, dict)
    # Otherwise the config.yaml of a run would have entries that nobody wrote.
    assert OmegaConf.to_yaml(config) == before
    with pytest.raises(ConfigAttributeError):
        config.other = 1


def test_a_config_may_ask_for_containers(package: Part) -> None:
    """As documented by Hydra, `_convert_` is for each config to set."""
    config = make_config(_target_="builtins.dict", _convert_="none")
    before = list(config)
    assert isinstance(package("building").build(config)["a"], ListConfig)
    assert list(config) == before


def test_partial_parts_are_completed_later(package: Part) -> None:
    """A model receives the facts about the data as they are, without copies."""
    config, fact = make_config(_target_="builtins.dict", _partial_=False), object()
    before = OmegaConf.to_yaml(config)
    made = package("building").build(config, _partial_=True)(fact=fact)
    assert made["fact"] is fact
    assert made["b"] == {"c": 3}
    assert OmegaConf.to_yaml(config) == before


def test_config_survives_an_error(package: Part) -> None:
    """The config is written to the run's folder after a part was rejected, too."""
    config = make_config(_target_="builtins.range")
    before = OmegaConf.to_yaml(config)
    with pytest.raises(TypeError, match="no keyword arguments"):
        package("building").build(config)
    assert OmegaConf.to_yaml(config) == before
    with pytest.raises(ConfigAttributeError):
        config.other = 1
