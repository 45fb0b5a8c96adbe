"""Fixtures of the tests. The package is found, not named, so that it can be renamed."""

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, open_dict

# Read when torch is imported: threads that spin while waiting are slow on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = next(path.parent.name for path in ROOT.glob("*/training.py"))

# Its assertions explain themselves like those of a test.
pytest.register_assert_rewrite("model_checks")
sys.path.insert(0, str(ROOT))
importlib.import_module(PACKAGE)  # registers the project
importlib.import_module("workbench.runs.directory").register_resolvers()


@pytest.fixture(scope="session")
def package() -> Callable[[str], Any]:
    """Import a module of the package: `package("data")`."""
    return lambda module: importlib.import_module(f"{PACKAGE}.{module}")


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., DictConfig]:
    """Compose a config as the command line does: `configure("train", "model=mlp")`."""

    def configured(name: str, *overrides: str) -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = compose(name, list(overrides))
        with open_dict(cfg):
            cfg.paths.output_dir = str(tmp_path / "run")
            cfg.paths.log_dir = str(tmp_path)
        return cfg

    return configured
