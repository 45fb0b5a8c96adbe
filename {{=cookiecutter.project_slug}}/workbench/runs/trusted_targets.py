"""What a run's config may name: rebuilding a run imports and calls every `_target_` in it.

The config is passed on together with a checkpoint, so it must not be able to execute arbitrary
code. Only classes that are part of a run are accepted, and only from folders to which nobody can
write by sending a run.
"""

import importlib
import importlib.util
import inspect
import os
import re
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf

from ..errors import UserError, first_line
from ..project import LIBRARY, project

# The other name of pytorch_lightning, which `lightning_names.py` makes known.
LIGHTNING = "lightning"
# The parts of this library that a run consists of. The others build, load or start whatever their
# arguments name: as a `_target_`, they would bypass the check.
LIBRARY_PARTS = ("data", "models")
# Parts of the project's package that can do the same.
STARTERS = ("callbacks", "training")
# The names of attributes such as __globals__ lead from any class to everything.
NAME = re.compile(r"(?!__)[^\W\d]\w*(\.(?!__)[^\W\d]\w*)+")
HOW = "add trust_config=true if you trust whoever wrote it"


def check_targets(config: DictConfig | dict[str, Any], source: str | Path) -> None:
    """Reject a config that names anything but parts of a run.

    Accepted are subclasses of LightningModule, LightningDataModule, nn.Module, Optimizer and
    LRScheduler, and what the project's own package or this library defines. Nothing is called, and
    nothing is imported from outside the environment and the project.

    Args:
        config: the nodes that will be instantiated.
        source: the file they come from, for the message.

    Raises:
        UserError: the config names something else, or contains references.
    """
    found = list(_targets(config, "", source))
    for place, target in found:
        if not (isinstance(target, str) and NAME.fullmatch(target) and is_importable(target)):
            raise UserError(_refusal(source, place, target))
    for place, target in found:
        try:
            is_accepted = is_part_of_run(_locate(target))
        except (ImportError, AttributeError) as error:
            raise UserError(
                f"{source} names {target} ({place}), which cannot be imported: {first_line(error)}."
            ) from error
        if not is_accepted:
            raise UserError(_refusal(source, place, target))


def check_data(config: DictConfig, source: str | Path) -> None:
    """Reject a run's config whose data are not a datamodule, see `check_targets`.

    Raises:
        UserError: it names something else.
    """
    check_targets(OmegaConf.create({"data": config.get("data")}), source)


def _refusal(source: str | Path, place: str, target: object) -> str:
    return (
        f"{source} names {target} ({place}), which is not a known kind of model, datamodule, "
        f"optimizer or scheduler and could execute anything: {HOW}."
    )


def _targets(node: Any, place: str, source: str | Path) -> Iterator[tuple[str, Any]]:
    """Key and value of every `_target_`, in dictionaries and lists at any depth."""
    if isinstance(node, Container):
        node = OmegaConf.to_container(node)
    if isinstance(node, str) and "${" in node:
        # It could become a `_target_` after the check; the config of a run contains none.
        raise UserError(f"{source} contains the reference {node} ({place}): {HOW}.")
    if isinstance(node, dict):
        if "_target_" in node:
            yield place, node["_target_"]
        for key, value in node.items():
            yield from _targets(value, f"{place}.{key}".lstrip("."), source)
    if isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield from _targets(value, f"{place}[{position}]", source)


def is_importable(target: str) -> bool:
    """Whether importing the target's module executes only code that is installed here.

    That is code of this environment, of the project, and of absolute folders in PYTHONPATH; never
    that of a run's folder, even if it is the current folder of a notebook.
    """
    top = target.partition(".")[0]
    # Nothing in the standard library is part of a run, and some imports have side effects.
    if top in sys.stdlib_module_names:
        return False
    is_known = top in (project().package, LIBRARY, LIGHTNING)
    if is_known or getattr(sys.modules.get(top), "__file__", None):
        return True
    spec = importlib.util.find_spec(top)
    if spec is None:
        return True  # the import will say so
    if spec.origin is None:
        # A namespace package: a folder without __init__.py. In the project or in PYTHONPATH, it
        # may be a folder of runs.
        places = [Path(place).resolve().parent for place in spec.submodule_search_locations or ()]
        return bool(places) and set(places) <= _site_folders()
    file = Path(spec.origin).resolve()
    folder = file.parent.parent if file.name.startswith("__init__.") else file.parent
    return folder in {project().root.resolve(), *_site_folders(), *_linked_folders()}


@cache
def _site_folders() -> set[Path]:
    """The folders in which packages are installed."""
    paths = sysconfig.get_paths()
    folders = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return {Path(folder).resolve() for folder in (*folders, site.getusersitepackages())}


def _linked_folders() -> set[Path]:
    """The folders of editable installations and of PYTHONPATH."""
    links = [link for folder in _site_folders() for link in folder.glob("*.pth")]
    lines = [line for link in links for line in link.read_text("utf-8", "replace").splitlines()]
    lines += os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return {Path(line).resolve() for line in lines if Path(line).is_absolute()}


def _locate(target: str) -> Any:
    """The object with a dotted name; the modules in the name are imported."""
    parts = target.split(".")
    found: Any = importlib.import_module(parts[0])
    for count, part in enumerate(parts[1:], 2):
        if isinstance(found, ModuleType) and not hasattr(found, part):
            found = importlib.import_module(".".join(parts[:count]))
        else:
            found = getattr(found, part)
    return found


def is_part_of_run(found: object) -> bool:
    """Whether an object creates a part of a run, and nothing else."""
    from pytorch_lightning import LightningDataModule, LightningModule
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    parts = (LightningModule, LightningDataModule, nn.Module, Optimizer, LRScheduler)
    if isinstance(found, type) and issubclass(found, parts):
        return True
    if not (inspect.isclass(found) or inspect.isfunction(found) or inspect.ismethod(found)):
        return False
    # Where it was defined: an import makes `os` an attribute of many modules.
    package, _, module = str(found.__module__).partition(".")
    part = module.partition(".")[0]
    if package == LIBRARY:
        return part in LIBRARY_PARTS
    return package == project().package and part not in STARTERS
