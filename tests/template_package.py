"""The template's package, imported where it lies: no project has to be baked."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = (
    Path(__file__).resolve().parent.parent
    / "{{=cookiecutter.__folder}}"
    / "{{=cookiecutter.package_name}}"
)
Part = Callable[[str], ModuleType]


@contextmanager
def imported(folder: Path) -> Iterator[Part]:
    """Yield a function that imports a module of the package by its name.

    Args:
        folder: an empty folder, which names the package and takes its compiled files.
    """
    (folder / f"package_of_{folder.name}").symlink_to(PACKAGE, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(sys, "pycache_prefix", str(folder / "compiled"))
        yield lambda name: importlib.import_module(f"package_of_{folder.name}.{name}")
