"""The repository installs as the library: the wheel, its metadata, and a project that uses it."""

import re
import shutil
import sysconfig
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..conftest import ROOT, Bake, BakedProject, run
from ..support.sweeps import LR, SMALL, Swept, sweep_command
from ..support.training_runs import ON_CPU
from .test_user_lint import distributions_of, imported_by

PARTS = ("workbench", "hydra_plugins")
# What it offers to applications that are no projects.
CONFIGS = "workbench/sweeps/configs/hydra/sweeper/"


@pytest.fixture(scope="module")
def wheel(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a fresh clone without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    run("python", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=template)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """Name, version and requirements of the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def version() -> str:
    """The version that the source states."""
    (folder,) = ROOT.glob("{{=*")
    text = (folder / "workbench" / "__init__.py").read_text("utf-8")
    (found,) = re.findall(r'^__version__ = "(\d+\.\d+\.\d+)"$', text, re.MULTILINE)
    return str(found)


def test_wheel_holds_all_files_of_the_library(wheel: Path, template: Path) -> None:
    """A data file that is left out is missed only at the end of somebody's sweep."""
    (folder,) = template.glob("{{=*")
    files = [path for part in PARTS for path in (folder / part).rglob("*") if path.is_file()]
    sweeper = folder / "configs" / "hydra" / "sweeper"
    groups = [path.relative_to(sweeper).as_posix() for path in sweeper.glob("*/*.yaml")]
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        configs = {name for name in names if name.startswith(CONFIGS)}
        assert configs == {f"{CONFIGS}{name}" for name in ["workbench.yaml", *groups]}
        names -= configs
        assert names == {path.relative_to(folder).as_posix() for path in files}
        for path in files:
            content = archive.read(path.relative_to(folder).as_posix())
            assert content == path.read_bytes(), "the library holds no Jinja"


def test_version_is_stated_once_and_has_its_changes(metadata: Message, version: str) -> None:
    """An update is announced under the version that `workbench.__version__` reports."""
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changes, re.MULTILINE)
    assert metadata["Version"] == version == released[0]


def test_wheel_requires_what_the_library_imports(metadata: Message, template: Path) -> None:
    """No package is missing after an installation, and none is installed without a use."""
    (folder,) = template.glob("{{=*")
    required = [Requirement(text) for text in metadata.get_all("Requires-Dist", [])]
    base = {canonicalize_name(one.name) for one in required if one.marker is None}
    every = {canonicalize_name(one.name) for one in required}
    used = set()
    for part in PARTS:
        for module in imported_by(folder / part) - set(PARTS):
            names = distributions_of(module)
            used |= names
            assert names & every, f"{module} is imported and {names} is not required"
    assert base <= used


def test_wheel_has_the_bounds_of_a_project(metadata: Message, bake: Bake) -> None:
    """What the tests of a project passed with is what the library may be installed with."""
    project = tomllib.loads(bake().read("pyproject.toml"))["project"]
    own: dict[str, set[str]] = {"": set()}
    for text in metadata.get_all("Requires-Dist", []):
        extra = re.search(r"; extra == '(\w+)'$", text)
        requirement = Requirement(text.partition(";")[0])
        own.setdefault(extra[1] if extra else "", set()).add(str(requirement))
    extras = project["optional-dependencies"]
    assert own.keys() - {""} == extras.keys() == set(metadata.get_all("Provides-Extra", []))
    for extra, texts in extras.items():
        assert own[extra] == {str(Requirement(text)) for text in texts}
    assert own[""] <= {str(Requirement(text)) for text in project["dependencies"]}
    assert metadata["Requires-Python"] == project["requires-python"]


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment in which the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed") / "env"
    run("python", "-m", "venv", "--without-pip", str(folder), cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    # Every other package is that of the shared environment.
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = str(folder / "bin" / "python")
    options = ("install", "--quiet", "--no-index", "--no-deps")
    run("python", "-m", "pip", "--python", python, *options, str(wheel), cwd=folder)
    return python


def test_installed_library_states_its_version(python: str, tmp_path: Path, version: str) -> None:
    """Importing it takes no project."""
    command = "import workbench; print(workbench.__version__)"
    assert run(python, "-c", command, cwd=tmp_path).stdout.strip() == version


def test_project_without_its_copy_trains_and_sweeps(
    demo: BakedProject, python: str, tmp_path: Path
) -> None:
    """`import workbench` and the sweeper's config mean the installed ones, and nothing else."""
    project = BakedProject(tmp_path / "project")
    ignored = shutil.ignore_patterns(".git", "__pycache__", "logs", *PARTS)
    shutil.copytree(demo.root, project.root, ignore=ignored)
    found = project.run(python, "-c", "import workbench; print(workbench.__file__)").stdout
    assert Path(found).is_relative_to(Path(python).parents[1])
    place = f"hydra.run.dir={tmp_path / 'run'}"
    project.run(python, "train.py", place, *SMALL, check=True, **ON_CPU)
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    swept = Swept(tmp_path / "study")
    command = sweep_command(swept.folder, LR, "hydra.sweeper.n_trials=2", "test=false")
    project.run(python, *command, check=True, **ON_CPU)
    assert swept.states() == {"COMPLETE": 2}
    assert (swept.folder / "report.html").is_file()
