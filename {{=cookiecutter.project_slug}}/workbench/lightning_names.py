"""Redirects imports of `lightning` to `pytorch_lightning`.

Lightning is published under two names with distinct classes: a trainer of one rejects a module of
the other. Its documentation imports `lightning`.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# The first match counts.
REAL_NAMES = {
    "lightning.fabric": "lightning_fabric",
    "lightning.pytorch": "pytorch_lightning",
    "lightning": "pytorch_lightning",
}


class LightningFinder(MetaPathFinder, Loader):
    """Finds `lightning` and its submodules under their names in `pytorch_lightning`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for names of `lightning`, None for all others."""
        return None if real_name(fullname) is None else ModuleSpec(fullname, self)

    def exec_module(self, module: ModuleType) -> None:
        """Replace the new module by the real one, which the import then returns."""
        real = real_name(module.__name__)
        assert real is not None
        sys.modules[module.__name__] = importlib.import_module(real)


def real_name(name: str) -> str | None:
    """For example `pytorch_lightning.callbacks` for `lightning.pytorch.callbacks`."""
    for alias, real in REAL_NAMES.items():
        if name == alias or name.startswith(f"{alias}."):
            return real + name.removeprefix(alias)
    return None


def use_one_lightning() -> None:
    """Install the finder before that of files, because `lightning` may be installed too."""
    if not any(isinstance(finder, LightningFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LightningFinder())
