"""Reading config files for Hydra.

Their first line, `# @package ...`, says where their values belong. Without it, Hydra puts them
below the file's group, where nothing reads them.
"""

from functools import cache
from pathlib import Path
from typing import Any, TextIO

import omegaconf
import yaml
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, ListConfig, OmegaConf

from .errors import UserError, first_line

# Groups whose files set values elsewhere, and the header that each of their files needs.
HEADERS = {
    "debug": "_global_",
    "experiment": "_global_",
    "search_space": "hydra.sweeper.search_space",
}


def check_headers() -> None:
    """Make Hydra reject files without their header, and accept a byte-order mark before it.

    Every process that composes a config needs this once.
    """
    # Hydra creates the class that reads files anew when it finds its plugins.
    Plugins.instance()
    file_source: Any = SourcesRegistry.instance().resolve("file")
    file_source.load_config = load_config
    file_source.is_group, file_source.is_config = is_group, is_config


def is_group(source: ConfigSource, config_path: str) -> bool:
    """Whether a folder exists; Hydra also resolves the links in each of a thousand paths."""
    return Path(source.path, config_path).is_dir()


def is_config(source: ConfigSource, config_path: str) -> bool:
    """Whether a config file exists."""
    return Path(source.path, source._normalize_file_name(config_path)).is_file()


def load_config(source: ConfigSource, config_path: str) -> ConfigResult:
    """Read a config file for Hydra.

    Args:
        source: the folder of the file.
        config_path: group and name, such as "experiment/digits".

    Raises:
        UserError: the file is not UTF-8, or its header is missing or wrong.
    """
    path = Path(source.path) / source._normalize_file_name(config_path)
    try:
        # Windows editors begin a file with a byte-order mark, after which Hydra finds no header.
        with path.open(encoding="utf-8-sig") as file:
            header = source._get_header_dict(file.read())
            file.seek(0)
            config = _parse(file)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: save it as UTF-8.") from error
    except ValueError as error:
        reason = first_line(error)
        raise UserError(f"{path} begins with a header that cannot be read: {reason}.") from error
    needed = HEADERS.get(config_path.partition("/")[0])
    if needed is not None and header["package"] != needed:
        raise UserError(
            f"{path} must begin with the line `# @package {needed}`: without it, its values have "
            "no effect."
        )
    origin = f"{source.scheme()}://{source.path}"
    return ConfigResult(source.provider, origin, config, header)


def _parse(file: TextIO) -> DictConfig | ListConfig:
    """What `OmegaConf.load` returns, a dozen times as fast: a command reads 50 files."""
    if yaml.__with_libyaml__ and omegaconf.__version__.startswith("2.3."):
        try:
            # A safe loader, as its name does not tell.
            loader = _fast_loader()
            content = yaml.load(file, loader)  # nosec B506
        except yaml.YAMLError:
            # Its messages are less exact.
            file.seek(0)
        else:
            if isinstance(content, dict | list):
                return OmegaConf.create(content)
            file.seek(0)
    return OmegaConf.load(file)


@cache
def _fast_loader() -> Any:
    """The rules of OmegaConf 2.3, with the parser that is written in C."""
    from omegaconf._utils import get_yaml_loader

    return type("FastLoader", (yaml.CSafeLoader, get_yaml_loader()), {})
