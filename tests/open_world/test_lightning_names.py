"""Modules may import Lightning under either of its names."""

import importlib
import subprocess
import sys

import pytest

from .world import PACKAGE, World


@pytest.mark.parametrize(
    ("name", "real"),
    [
        ("lightning", "pytorch_lightning"),
        ("lightning.pytorch", "pytorch_lightning"),
        ("lightning.pytorch.callbacks.model_checkpoint", None),
        ("lightning.fabric.utilities.seed", "lightning_fabric.utilities.seed"),
    ],
)
def test_both_names_are_one_package(world: World, name: str, real: str | None) -> None:
    """Two classes of one name would be refused by each other's trainer."""
    world.module("training")
    real = real or name.replace("lightning.pytorch", "pytorch_lightning")
    assert importlib.import_module(name) is importlib.import_module(real)
    spec = importlib.import_module(real).__spec__
    assert spec is not None
    assert spec.name == real


def test_missing_module_is_reported_as_usual(world: World) -> None:
    world.module("training")
    with pytest.raises(ModuleNotFoundError, match="nonsense"):
        importlib.import_module("lightning.pytorch.nonsense")


def test_package_imports_nothing_heavy(world: World) -> None:
    """`python train.py --help` would take seconds more."""
    code = f"import sys, {PACKAGE}; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=world.root, check=True)
