"""A run's `config.yaml` as an experiment: the same run again, or with other values."""

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..project import project

# The groups whose values a run's config holds in full: nothing of configs/ may shine through.
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


def is_config_of_run(config: DictConfig) -> bool:
    """Whether this is the whole config of a run; an experiment never says where to write."""
    return OmegaConf.select(config, "paths.output_dir") is not None


def check_options(path: str, arguments: Iterable[str]) -> None:
    """Refuse options that choose a group, whose file the run's own values would overrule.

    Raises:
        UserError: a group is chosen beside a run's config.
    """
    for argument in arguments:
        group = argument.partition("=")[0].partition("@")[0].lstrip("+~")
        if group in GROUPS:
            raise UserError(
                f"{path} holds every value of {group}, so {argument} would be mixed with them: "
                f"change single values ({group}.<name>=...), or give the options of that run, "
                "which its run.json has under `command`."
            )


def as_experiment(config: DictConfig) -> DictConfig:
    """The experiment that repeats the run, in a new folder.

    Values that follow from others become references again, as in `configs/`: another seed on the
    command line is then another seed everywhere.

    Args:
        config: what a run wrote into its `config.yaml`, all references resolved.
    """
    content, probe = config.copy(), config.copy()
    for key, reference in _references():
        probe["value"] = reference
        if OmegaConf.select(config, key, default=reference) == OmegaConf.select(probe, "value"):
            OmegaConf.update(content, key, reference)
    moved = _in_new_folder(OmegaConf.to_container(content), str(config.paths.output_dir))
    assert isinstance(moved, dict)
    # They belong to the place of the old run.
    for name in ("root_dir", "output_dir"):
        moved["paths"].pop(name, None)
    # A run that was resumed in its folder ends as if it had never stopped.
    if str(moved.get("ckpt_path")).startswith("${paths.output_dir}"):
        moved["ckpt_path"] = None
    nothing = [{f"override /{group}": None} for group in GROUPS]
    return OmegaConf.create({"defaults": [*nothing, "_self_"]} | moved)


@cache
def _references() -> list[tuple[str, str]]:
    """Every reference in `configs/`: where it stands in a run's config, and its text.

    Those with a colon are left out: they ask for a place or the time, not for another value.
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
    """The content with the old run's folder replaced by the new one's."""
    if isinstance(node, dict):
        return {key: _in_new_folder(value, folder) for key, value in node.items()}
    if isinstance(node, list):
        return [_in_new_folder(value, folder) for value in node]
    is_inside = isinstance(node, str) and Path(node).is_relative_to(folder)
    return node.replace(folder, "${paths.output_dir}", 1) if is_inside else node
