"""Hydra applications that are no projects, with the library as its wheel installs it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ..conftest import ROOT, own_environment, run
from .sweeps import Swept

SOURCE = ROOT / "{{=cookiecutter.project_slug}}"
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

    def sweep(self, *options: str, check: bool = True) -> Swept:
        """Run a sweep to its end."""
        words = (self.python, *SWEEP, "hydra.sweeper.study_name=study", *options)
        done = run(*words, cwd=self.root, check=check, **self.environment)
        return Swept(self.root / "multirun" / "study", done.stdout + done.stderr)

    def start(self, *options: str) -> "subprocess.Popen[bytes]":
        """Start a sweep and leave it running."""
        words = [self.python, *SWEEP, "hydra.sweeper.study_name=study", *options]
        null = subprocess.DEVNULL
        return subprocess.Popen(
            words, cwd=self.root, env=self.environment, stdin=null, stdout=null, stderr=null
        )


def make_library(folder: Path) -> Path:
    """Copy what the wheel contains, as `pyproject.toml` lists it."""
    for part in ("workbench", "hydra_plugins"):
        shutil.copytree(SOURCE / part, folder / part)
    configs = folder / "workbench" / "sweeps" / "configs" / "hydra" / "sweeper"
    for group in ("sampler", "pruner"):
        shutil.copytree(SOURCE / "configs" / "hydra" / "sweeper" / group, configs / group)
    shutil.copy(ROOT / "wheel" / "workbench.yaml", configs)
    return folder
