"""`experiment=<path>`: a whole run from a YAML file, such as a run's config or a sweep's best."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .errors import UserError
from .project import project
from .runs.rerun import as_experiment, check_options, is_config_of_run


def register_experiments(arguments: Sequence[str]) -> None:
    """Make the files that `experiment=` names known to Hydra, under their paths.

    Needed once in every process that composes a config; the arguments stay as they are, so that
    they mean the same to another process in the same folder.

    Args:
        arguments: the options of the command.

    Raises:
        UserError: no such file, or no experiment in it.
    """
    for argument in arguments:
        name = _experiment(argument) if argument.startswith("experiment=") else None
        if name is not None and is_experiment_file(name):
            # Hydra looks for `experiment/<choice>` and passes over doubled slashes.
            group, _, file = f"experiment/{name.lstrip('/')}".rpartition("/")
            node = read_experiment(name, arguments)
            ConfigStore.instance().store(file, node, group, package="_global_", provider=name)


def is_experiment_file(name: str) -> bool:
    """Whether an experiment's name is a path; what lies in `configs/experiment/` is a name."""
    named = project().configs / "experiment" / name.lstrip("/")
    return name.endswith((".yaml", ".yml")) and not named.is_file()


def read_experiment(path: str, options: Sequence[str] = ()) -> DictConfig:
    """Read an experiment from a file; the `config.yaml` of a run is one that repeats it.

    Args:
        path: of the file.
        options: of the command, which have to go with the file.

    Raises:
        UserError: no such file, no experiment in it, or an option that a run's config rules out.
    """
    if not Path(path).is_file():
        raise UserError(
            f"There is no file {path}: experiment= takes a name from configs/experiment/ or the "
            "path of a YAML file."
        )
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        place = "" if line is None else f" (line {line + 1})"
        raise UserError(f"{path} cannot be read as options in YAML{place}.") from error
    if not isinstance(config, DictConfig):
        raise UserError(f"{path} is no experiment: it holds no options.")
    if not isinstance(config.get("defaults", []), list | ListConfig):
        raise UserError(f"{path} is no experiment: its defaults are no list.")
    if is_config_of_run(config):
        check_options(path, options)
        return as_experiment(config)
    return config


def _experiment(argument: str) -> str | None:
    """The chosen name without its quotes; None where Hydra will have something to say itself."""
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return None
    return value if isinstance(value, str) else None
