"""Imports the template's package where it lies, without baking a project."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from .modules import project_module

PACKAGE = (
    Path(__file__).resolve().parents[2]
    / "{{=cookiecutter.project_slug}}"
    / "{{=cookiecutter.package_name}}"
)
Part = Callable[[str], ModuleType]
# Its name in the tests that share the fixture `package`.
NAME = "package_in_place"


@contextmanager
def template_package(folder: Path, name: str) -> Iterator[Part]:
    """A function that imports modules of the package.

    Args:
        folder: an empty folder to import from; compiled files stay out of the template.
        name: of the package, one for each test file.
    """
    (folder / name).symlink_to(PACKAGE, target_is_directory=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE.parent)
        patch.syspath_prepend(folder)
        patch.setattr(sys, "dont_write_bytecode", True)
        yield partial(project_module, name)
