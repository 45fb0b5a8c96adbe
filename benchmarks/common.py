"""What all subjects need: a baked project to run, and tables to print."""

import importlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "tensorboard")


class Project:
    """A baked project whose package is imported here, so that imports are not measured.

    Args:
        root: the project's folder; runs and data are written beside it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = next(root.glob("*/training.py")).parent.name
        self._count = 0
        # As the project's own scripts do, before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        sys.path.insert(0, str(root))
        self.module("runs.directory").register_resolvers()

    def module(self, name: str) -> Any:
        """A module of the package."""
        return importlib.import_module(f"{self.package}.{name}")

    def train(self, *options: str) -> Path:
        """Train as `train.py` would with these options; the run's folder."""
        from hydra import compose, initialize_config_dir

        self._count += 1
        folder = self.root.parent / "runs" / str(self._count)
        with initialize_config_dir(str(self.root / "configs"), version_base="1.3"):
            cfg = compose("train", [f"++paths.output_dir={folder}", "trainer=cpu", *options])
        self.module("training").train(cfg)
        return folder


@contextmanager
def baked_project() -> Iterator[Project]:
    """A project of the working tree's template with the default answers, removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        copy_template(template)
        answers = {"git": "no"}
        root = cookiecutter(
            str(template), no_input=True, extra_context=answers, output_dir=f"{folder}/project"
        )
        yield Project(Path(root))


def copy_template(target: Path) -> None:
    """Copy what git would: compiled files in the template's folder cannot be rendered."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for file in filter(None, listed.split("\0")):
        if (ROOT / file).is_file():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, target / file)


def environment() -> str:
    """What the numbers depend on, in one line."""
    import torch

    parts = [f"Python {platform.python_version()}"]
    parts += [f"{package} {version(package)}" for package in PACKAGES]
    parts += [f"{os.cpu_count()} cores ({processor()})", f"{torch.get_num_threads()} threads"]
    return ", ".join(parts)


def processor() -> str:
    """The processor's name, where it can be asked."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The median, and in brackets the lowest and the highest."""
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, so that it can be copied into a page."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    print(f"\n{title}\n")
    for line in (header, ["-" * width for width in widths], *rows):
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print(f"| {' | '.join(cells)} |", flush=True)
