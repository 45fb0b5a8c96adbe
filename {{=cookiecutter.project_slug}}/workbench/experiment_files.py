"""`experiment=<path>`: a whole run from a YAML file, such as a run's config or a sweep's best.

The `config.yaml` of a run becomes an experiment that repeats it, or varies it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError, OmegaConfBaseException

from .errors import UserError
from .project import project

# The groups whose values a run's config contains in full, so that none come from configs/.
GROUPS = (
    "data",
    "model",
    "optimizer",
    "scheduler",
    "trainer",
    "profiler",
    "callbacks",
    "finders",
    "logger",
)
REFERENCE = re.compile(r"\$\{[\w.]+\}")


def register_experiments(arguments: Sequence[str]) -> None:
    """Register the files that `experiment=` names with Hydra, under their paths.

    Every process that composes a config needs this once. The arguments stay as they are, so that
    they mean the same in another process in the same folder.

    Args:
        arguments: the options of the command.

    Raises:
        UserError: there is no such file, or it is not an experiment.
    """
    for argument in arguments:
        name = _experiment(argument) if argument.startswith("experiment=") else None
        if name is not None and is_experiment_file(name):
            # Hydra looks for `experiment/<choice>` and ignores doubled slashes.
            group, _, file = f"experiment/{name.lstrip('/')}".rpartition("/")
            node = read_experiment(name, arguments)
            ConfigStore.instance().store(file, node, group, package="_global_", provider=name)


def is_experiment_file(name: str) -> bool:
    """Whether an experiment is given by a path rather than a name in `configs/experiment/`."""
    named = project().configs / "experiment" / name.lstrip("/")
    return name.endswith((".yaml", ".yml")) and not named.is_file()


def read_experiment(path: str, options: Sequence[str] = ()) -> DictConfig:
    """Read an experiment from a file; the `config.yaml` of a run is one that repeats it.

    Args:
        path: the file.
        options: the other options of the command.

    Raises:
        UserError: there is no such file, it is not an experiment, or an option contradicts it.
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
        raise UserError(f"{path} is not an experiment: it contains no options.")
    if not isinstance(config.get("defaults", []), list | ListConfig):
        raise UserError(f"{path} is not an experiment: its defaults are not a list.")
    if is_config_of_run(config):
        check_no_groups(path, options)
        return as_experiment(config)
    return config


def _experiment(argument: str) -> str | None:
    """The chosen name without its quotes; None if Hydra itself will reject it."""
    try:
        value = OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return None
    return value if isinstance(value, str) else None


def is_config_of_run(config: DictConfig) -> bool:
    """Whether this is the config of a run; an experiment never sets the output folder."""
    return OmegaConf.select(config, "paths.output_dir") is not None


def check_no_groups(path: str, arguments: Iterable[str]) -> None:
    """Reject options that choose a group, because the run's own values would override its file.

    Raises:
        UserError: an option chooses a group.
    """
    for argument in arguments:
        group = argument.partition("=")[0].partition("@")[0].lstrip("+~")
        if group in GROUPS:
            raise UserError(
                f"{path} contains every value of {group}, and {argument} would be mixed with them: "
                f"set single values ({group}.<name>=...), or repeat the command of that run, which "
                "is in its run.json."
            )


def as_experiment(config: DictConfig) -> DictConfig:
    """The experiment that repeats the run, in a new folder.

    Values that depend on others become references again, as in `configs/`: another seed on the
    command line then takes effect everywhere.

    Args:
        config: the content of a run's `config.yaml`, all references resolved.
    """
    content, probe = config.copy(), config.copy()
    for key, reference in _references():
        probe["value"] = reference
        # A reference of one experiment may be to options that other runs do not have.
        with suppress(InterpolationResolutionError):
            if OmegaConf.select(config, key, default=reference) == OmegaConf.select(probe, "value"):
                OmegaConf.update(content, key, reference)
    moved = _in_new_folder(OmegaConf.to_container(content), str(config.paths.output_dir))
    assert isinstance(moved, dict)
    # They are specific to the old run.
    for name in ("root_dir", "output_dir"):
        moved["paths"].pop(name, None)
    # A run that was resumed in its own folder is repeated from its beginning.
    if str(moved.get("ckpt_path")).startswith("${paths.output_dir}"):
        moved["ckpt_path"] = None
    nothing = [{f"override /{group}": None} for group in GROUPS]
    return OmegaConf.create({"defaults": [*nothing, "_self_"]} | moved)


@cache
def _references() -> list[tuple[str, str]]:
    """Every reference in `configs/`: its key in a run's config, and its text.

    Those with a colon call a resolver for a folder or the time and are left out.
    """
    found: list[tuple[str, str]] = []
    for path in [project().configs / "train.yaml", *sorted(project().configs.glob("*/*.yaml"))]:
        text = path.read_text("utf-8")
        group = "" if path.parent == project().configs else path.parent.name
        first = text.lstrip().partition("\n")[0]
        package = first.partition("@package")[2].strip() if "@package" in first else group
        if package.partition(".")[0] != "hydra" and "${" in text:
            prefix = f"{package}." if package not in ("", "_global_") else ""
            found += [(prefix + key, value) for key, value in _leaves(yaml.safe_load(text))]
    return [(key, value) for key, value in found if REFERENCE.search(str(value))]


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        yield prefix.removesuffix("."), node
        return
    for key, value in node.items():
        yield from _leaves(value, f"{prefix}{key}.")


def _in_new_folder(node: Any, folder: str) -> Any:
    """The content with the folder of the old run replaced by that of the new one."""
    if isinstance(node, dict):
        return {key: _in_new_folder(value, folder) for key, value in node.items()}
    if isinstance(node, list):
        return [_in_new_folder(value, folder) for value in node]
    is_inside = isinstance(node, str) and Path(node).is_relative_to(folder)
    return node.replace(folder, "${paths.output_dir}", 1) if is_inside else node
