"""Imports the template's package where it lies, without baking a project."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = (
    Path(__file__).resolve().parent.parent
    / "{{=cookiecutter.project_slug}}"
    / "{{=cookiecutter.package_name}}"
)
Part = Callable[[str], ModuleType]


@contextmanager
def template_package(folder: Path, name: str) -> Iterator[Part]:
    """A function that imports modules of the package.

    Args:
        folder: an empty folder to import from; compiled files stay out of the template.
        name: of the package, one for each test file.
    """
    (folder / name).symlink_to(PACKAGE, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(sys, "dont_write_bytecode", True)
        yield lambda module: importlib.import_module(f"{name}.{module}")
