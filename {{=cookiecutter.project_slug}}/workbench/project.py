"""The project's folder and package, which is all that this library knows about the project.

`<package>/__init__.py` registers both. Every entry script and every process that runs code of the
project imports that package, so they are defined only once.
"""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path

from . import env_file
from .errors import UserError
from .lightning_names import use_one_lightning

LIBRARY = __name__.partition(".")[0]


@dataclass(frozen=True)
class Project:
    """A project that uses this library.

    Attributes:
        package: the name of its Python package.
        root: the folder of the entry scripts and of `configs/`.
        configs: the folder of its Hydra configs.
    """

    package: str
    root: Path
    configs: Path


_registered: Project | None = None


def register_project(package: str, root: Path) -> None:
    """Register the project in this process, and set the variables of its `.env`."""
    global _registered
    use_one_lightning()
    env_file.load(root)
    _registered = Project(package, root, root / "configs")


def register_application(root: Path, configs: Path) -> None:
    """Register another Hydra application, of which only its folder is known.

    Args:
        root: the folder of its script.
        configs: a folder with configs of the sweeper.
    """
    global _registered
    _registered = Project("", root, configs)


def project() -> Project:
    """The project of this process.

    In a process that has imported nothing of the project, such as a notebook, it is the project of
    the current folder, or else the first one on `sys.path`.

    Raises:
        UserError: there is none.
    """
    if _registered is None:
        _find_project()
    if _registered is None:
        raise UserError(
            f"{Path.cwd()} is not in a project: change to its folder, or import its package first."
        )
    return _registered


def _find_project() -> None:
    """Import the package of the nearest project, which registers it."""
    here = Path.cwd()
    for folder in (here, *here.parents, *map(Path, filter(None, sys.path))):
        if (folder / "configs" / "train.yaml").is_file():
            for module in folder.glob("*/training.py"):
                sys.path.append(str(folder))
                importlib.import_module(module.parent.name)
                return
