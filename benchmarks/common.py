"""What all subjects need: a baked project to run, and tables to print."""

import importlib
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "pytorch-lightning", "hydra-core", "tensorboard")


class Project:
    """A baked project whose package is imported here, so that imports are not measured.

    Args:
        root: the project's folder; runs are written beside it.
        hides_gpus: train on the processor, whatever there is.
    """

    def __init__(self, root: Path, hides_gpus: bool = True) -> None:
        self.root = root
        self.package = next(root.glob("*/training.py")).parent.name
        # As the project's own scripts do, before torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if hides_gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        sys.path.insert(0, str(root))
        # The package registers the project with the library.
        importlib.import_module(self.package)
        self.library("runs.directory").register_resolvers()

    def module(self, name: str) -> Any:
        """A module of the project's package."""
        return importlib.import_module(f"{self.package}.{name}")

    def library(self, name: str) -> Any:
        """A module of `workbench`."""
        return importlib.import_module(f"workbench.{name}")

    def configure(self, *options: str) -> Any:
        """The config of a run with these options, in a new folder."""
        from hydra import compose, initialize_config_dir

        folder = tempfile.mkdtemp(prefix="run-", dir=self.root.parent)
        with initialize_config_dir(str(self.root / "configs"), version_base="1.3"):
            return compose("train", [f"++paths.output_dir={folder}", *options])

    def train(self, *options: str) -> None:
        """Train as `train.py` would with these options."""
        self.module("training").train(self.configure(*options))


@contextmanager
def baked_project(hides_gpus: bool = True) -> Iterator[Project]:
    """A project of the working tree's template with the default answers, removed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        copy_template(template)
        answers = {"git": "no"}
        root = cookiecutter(
            str(template), no_input=True, extra_context=answers, output_dir=f"{folder}/project"
        )
        yield Project(Path(root), hides_gpus)


def copy_template(target: Path) -> None:
    """Copy what git would: compiled files in the template's folder cannot be rendered."""
    for file in template_files():
        if (ROOT / file).is_file():
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, target / file)


def template_files() -> list[str]:
    """The files of the template; in a copy without a repository, all but compiled ones."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        folders = [ROOT / "hooks", *ROOT.glob("{{=cookiecutter*")]
        paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        written = [str(path.relative_to(ROOT)) for path in paths if path.suffix != ".pyc"]
        return ["cookiecutter.json", *written]
    return list(filter(None, done.stdout.split("\0")))


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and of the processor in all threads.

    Attributes:
        wall: on the clock.
        cpu: of the processor.
        steps: on the clock, of the training steps of an epoch alone; 0 where nobody asked.
    """

    wall: float
    cpu: float
    steps: float = 0.0


def ratios(ones: Sequence[Took], others: Sequence[Took], clock: str = "wall") -> list[float]:
    """Ratios of what was measured in the same rounds."""
    return [getattr(a, clock) / getattr(b, clock) for a, b in zip(ones, others, strict=True)]


def time_command(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], fails: bool = False
) -> Took:
    """Run a command in a folder and measure it, with the processes that it starts.

    Args:
        command: the command.
        folder: where it runs.
        variables: of its surroundings, beside those of this process.
        fails: whether it is to fail.

    Raises:
        RuntimeError: it failed, or did not.
    """
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if bool(process.returncode) is not fails:
            said.seek(0)
            raise RuntimeError(
                f"{' '.join(command)} ended with {process.returncode}:\n{said.read().decode()}"
            )
    return Took(wall, usage.ru_utime + usage.ru_stime)


def use_one_thread() -> None:
    """One thread: those of a second contender would fight with it."""
    import torch

    torch.set_num_threads(1)


def environment() -> str:
    """What the numbers depend on, in one line."""
    parts = [f"Python {platform.python_version()}"]
    parts += [f"{package} {version(package)}" for package in PACKAGES]
    parts += [f"{os.cpu_count()} cores ({processor()})"]
    # Where this process trains, and not the commands that it starts.
    if torch := sys.modules.get("torch"):
        threads = torch.get_num_threads()
        parts.append("1 thread" if threads == 1 else f"{threads} threads")
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
