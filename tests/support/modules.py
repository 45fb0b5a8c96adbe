"""Imports modules of a project into this process, wherever they lie."""

import importlib
from pathlib import Path
from typing import Any


def project_module(package: str, name: str) -> Any:
    """A module of a project's package, or else the one of that name in `workbench`.

    The project of `package` becomes that of this process, in which several projects are imported.
    """
    own = importlib.import_module(package)
    folder = Path(str(own.__file__)).resolve().parent
    importlib.import_module("workbench.project").register_project(package, folder.parent)
    # Both have these folders; the library's modules are the ones that tests look into.
    is_both = name in ("analysis", "callbacks")
    place = folder.joinpath(*name.split("."))
    is_own = place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
    return importlib.import_module(f"{package if is_own and not is_both else 'workbench'}.{name}")
