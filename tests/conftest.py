"""Bakes projects from a clean copy of the template and lets tests look at them and run them.

Everything runs with the interpreter that runs pytest: one shared environment holds the tools of
this repository and the dependencies of the generated project.
"""

import atexit
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cookiecutter.main import cookiecutter
from jinja2 import Environment

from .support.modules import project_module
from .support.template_package import NAME, Part, template_package
from .support.training_runs import ON_CPU, TrainedRun, script, train
from .support.warm_client import WarmProcess, WarmServer

# Read when torch is imported, by the tests that train in this process: threads that spin while they
# wait make small networks twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent
Bake = Callable[..., "BakedProject"]

# What a virtual environment, a test runner or a git hook around this process would pass on.
OUTER = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT", "GIT_DIR")
# Without compiled files every training would spend ten more seconds on its imports.
SLOW = ("PYTHONDONTWRITEBYTECODE",)


@dataclass(frozen=True)
class BakedProject:
    """A generated project on disk."""

    root: Path

    def read(self, file: str) -> str:
        """Return the text of a file."""
        return (self.root / file).read_text(encoding="utf-8")

    def files(self) -> set[str]:
        """Return the paths of all files, as git would write them."""
        return {
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_file() and ".git" not in path.relative_to(self.root).parts
        }

    def empty_folders(self) -> set[str]:
        """Return the folders that hold nothing."""
        return {
            path.relative_to(self.root).as_posix()
            for path in self.root.rglob("*")
            if path.is_dir() and ".git" not in path.parts and not any(path.iterdir())
        }

    def run(
        self, *command: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; `python` is the shared environment's."""
        return run(*command, cwd=self.root, check=check, **variables)

    def run_warm(
        self, *command: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of the project, `-c code` or `-m module` in a fork with heavy imports."""
        return run_warm(*command, cwd=self.root, check=check, **variables)


def own_environment() -> dict[str, str]:
    """The variables of a user's shell, with the shared environment first on the path."""
    environment = {key: value for key, value in os.environ.items() if key not in OUTER + SLOW}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return environment


WARM = WarmServer(own_environment() | ON_CPU, imports_projects=True)
atexit.register(WARM.close)


def run(
    *command: str, cwd: Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with the shared environment first on the path and the outer one kept out."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=own_environment() | {"PWD": str(cwd)} | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return passed(done) if check else done


def run_warm(
    *command: str, cwd: Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `script.py`, `-c code` or `-m module` as `run` does, in a fork with heavy imports.

    The words are those after `python`. Other options of the interpreter need a new one.
    """
    if command[0] not in ("-c", "-m") and not command[0].endswith(".py"):
        return run("python", *command, cwd=cwd, check=check, **variables)
    done = WARM.run(command, cwd, own_environment() | {"PWD": str(cwd)} | variables)
    return passed(done) if check else done


def start_warm(*command: str, cwd: Path, **variables: str) -> WarmProcess:
    """Start a Python script as `run_warm` does, and leave it running."""
    return WARM.start(command, cwd, own_environment() | {"PWD": str(cwd)} | variables)


def passed(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    """Fail the test unless a command has succeeded."""
    if done.returncode != 0:
        pytest.fail(
            f"{' '.join(done.args)} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    return done


@pytest.fixture(scope="session", autouse=True)
def keep_home_clean(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give cookiecutter and cruft a folder of their own for clones and replays."""
    folder = tmp_path_factory.mktemp("cookiecutter")
    config = folder / "config.yaml"
    config.write_text(f"cookiecutters_dir: {folder}/clones\nreplay_dir: {folder}/replays\n")
    os.environ["COOKIECUTTER_CONFIG"] = str(config)


@pytest.fixture(scope="session", autouse=True)
def compile_templates_once() -> Iterator[None]:
    """Keep what Jinja compiles: cookiecutter has an environment of its own for every project."""
    usual = Environment.compile
    compiled: dict[Any, Any] = {}

    def compile_once(environment: Environment, source: Any, *words: Any, **names: Any) -> Any:
        # Environments with the same delimiters share their lexer.
        key = (id(environment.lexer), source, words, *sorted(names.items()))
        if key not in compiled:
            compiled[key] = usual(environment, source, *words, **names)
        return compiled[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "compile", compile_once)
        yield


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the template as a fresh clone of the working tree has it."""
    copy = tmp_path_factory.mktemp("template") / "cookiecutter-lightning"
    for file in listed_by_git() or parts_of_template():
        if (ROOT / file).is_file():  # git still lists a file that was just deleted
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, copy / file)
    return copy


def listed_by_git() -> list[str]:
    """The files of a fresh clone; none where the working tree was copied without its repository."""
    # The tree may belong to another user, as in a container.
    git = ("git", "-c", "safe.directory=*")
    command = (*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    with suppress(FileNotFoundError):
        done = run(*command, cwd=ROOT, check=False)
        return [file for file in done.stdout.split("\0") if file and done.returncode == 0]
    return []


def parts_of_template() -> list[str]:
    """The files that a project is made of."""
    folders = [ROOT / "hooks", *ROOT.glob("{{*")]
    paths = [path for folder in folders for path in folder.rglob("*")]
    kept = [path for path in paths if "__pycache__" not in path.parts]
    return [str(path.relative_to(ROOT)) for path in (ROOT / "cookiecutter.json", *kept)]


@pytest.fixture(scope="session")
def bake(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Bake a project with the given answers; the same answers give the same project again."""
    baked: dict[tuple[tuple[str, str], ...], BakedProject] = {}

    def bake_with(**answers: str) -> BakedProject:
        key = tuple(sorted(answers.items()))
        if key not in baked:
            folder = tmp_path_factory.mktemp("baked")
            answers = {"git": "no"} | answers
            project = cookiecutter(
                str(template), no_input=True, extra_context=answers, output_dir=str(folder)
            )
            baked[key] = BakedProject(Path(project))
        return baked[key]

    return bake_with


@pytest.fixture(scope="session")
def demo(bake: Bake) -> BakedProject:
    """The project that the tests train with; they leave runs and compiled files in it."""
    return bake(project_name="Demo", author_email="ada@example.org", git="yes")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """Imports modules of the template's package or of `workbench`, without a baked project."""
    with template_package(tmp_path_factory.mktemp("package"), NAME) as part:
        yield part


@pytest.fixture(scope="module")
def sweeps_package(demo: BakedProject) -> Iterator[Callable[[str], ModuleType]]:
    """Imports modules of the demo's `sweeps` into this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        yield lambda name: project_module("demo", f"sweeps.{name}")


@pytest.fixture(scope="session")
def digits(demo: BakedProject) -> TrainedRun:
    """The run that a new owner starts first: no options at all."""
    done = script(demo, "train.py", is_warm=False)
    (folder,) = demo.root.glob("logs/train/runs/*_digits_*")
    return TrainedRun(folder, done)


@pytest.fixture(scope="session")
def diabetes(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    """The regression that every project brings along."""
    return train(demo, tmp_path_factory.mktemp("diabetes") / "run", "experiment=diabetes")


@pytest.fixture(scope="session")
def side_by_side() -> Iterator[ThreadPoolExecutor]:
    """Runs two commands at a time; each uses one core, and most of its time for imports."""
    with ThreadPoolExecutor(2) as pool:
        yield pool
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def pre_gen() -> ModuleType:
    """The hook that refuses answers, as a module."""
    spec = importlib.util.spec_from_file_location("pre_gen", ROOT / "hooks" / "pre_gen_project.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
