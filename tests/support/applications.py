"""Hydra applications that are no projects, with the library as its wheel installs it."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..conftest import ROOT, own_environment, run, run_warm, start_warm
from .sweeps import Swept
from .warm_client import WarmProcess

SOURCE = ROOT / "{{=cookiecutter.project_slug}}"
# Hydra's own example of a sweeper is a function of three options.
SPHERE = """
import os

import hydra
from omegaconf import DictConfig


@hydra.main(version_base=None, config_path="conf", config_name="config")
def sphere(cfg: DictConfig):
    print("process", os.getpid(), "gpus", os.environ.get("CUDA_VISIBLE_DEVICES"))
    value = cfg.x**2 + cfg.y**2 + (0 if cfg.z == "foo" else 1)
    return RESULT


if __name__ == "__main__":
    sphere()
"""
SPHERE_CONFIG = "x: 1\ny: 2\nz: foo\n"

SWEEP = ("app.py", "-m", "hydra/sweeper=workbench")


@dataclass(frozen=True)
class Application:
    """A folder with an application, and an interpreter that knows the library.

    Attributes:
        root: the folder of `app.py`.
        python: the interpreter.
        path: for PYTHONPATH.
    """

    root: Path
    python: str
    path: str

    @property
    def environment(self) -> dict[str, str]:
        """The variables of its user's shell."""
        return own_environment() | {"PYTHONPATH": self.path, "PWD": str(self.root)}

    def run(
        self, *words: str, check: bool = True, is_warm: bool = True
    ) -> "subprocess.CompletedProcess[str]":
        """Run a script with its options.

        Args:
            words: those after `python`.
            check: fail the test if the command fails.
            is_warm: whether it runs in a fork of a process that has done the heavy imports; with
                the interpreter of the tests only.
        """
        if is_warm and self.python == sys.executable:
            return run_warm(*words, cwd=self.root, check=check, **self.environment)
        return run(self.python, *words, cwd=self.root, check=check, **self.environment)

    def sweep(self, *options: str, check: bool = True, is_warm: bool = True) -> Swept:
        """Run a sweep to its end."""
        words = (*SWEEP, "hydra.sweeper.study_name=study", *options)
        done = self.run(*words, check=check, is_warm=is_warm)
        return Swept(self.root / "multirun" / "study", done.stdout + done.stderr)

    def start(self, *options: str) -> WarmProcess:
        """Start a sweep and leave it running."""
        words = (*SWEEP, "hydra.sweeper.study_name=study", *options)
        return start_warm(*words, cwd=self.root, **self.environment)


def make_library(folder: Path) -> Path:
    """Copy what the wheel contains, as `pyproject.toml` lists it."""
    for part in ("workbench", "hydra_plugins"):
        shutil.copytree(SOURCE / part, folder / part)
    configs = folder / "workbench" / "sweeps" / "configs" / "hydra" / "sweeper"
    for group in ("sampler", "pruner"):
        shutil.copytree(SOURCE / "configs" / "hydra" / "sweeper" / group, configs / group)
    shutil.copy(ROOT / "wheel" / "workbench.yaml", configs)
    return folder


def application(root: Path, library: Path, code: str) -> Application:
    """An application of a single module."""
    (root / "app.py").write_text(code, "utf-8")
    return Application(root, sys.executable, str(library))
