"""The project on every Python it promises, each in an environment of its own."""

import os
import shutil
from pathlib import Path

import pytest

from ..conftest import ROOT, Bake, run
from ..support.training_runs import ON_CPU

VERSIONS = ["3.11", "3.12", "3.13"]


@pytest.fixture(scope="module")
def uv() -> str:
    """Uv from the path, or the one that the Makefile installs."""
    tools = ROOT / "build" / "tools" / "bin"
    found = shutil.which("uv", path=os.pathsep.join([os.environ["PATH"], str(tools)]))
    if found is None:
        pytest.skip("there is no uv")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_project_installs_trains_and_passes_its_tests(
    bake: Bake, uv: str, tmp_path: Path, version: str
) -> None:
    """`uv sync`, a short training and the project's own tests, as its owner would start."""
    variables = {"UV_PYTHON": version, "UV_PYTHON_DOWNLOADS": "never", **ON_CPU}
    if run(uv, "python", "find", cwd=tmp_path, check=False, **variables).returncode:
        pytest.skip(f"there is no Python {version}")
    project = bake(project_name=f"On {version}", python_version=version)
    project.run(uv, "sync", "--quiet", check=True, **variables)
    python = str(project.root / ".venv" / "bin" / "python")
    assert project.run(python, "--version").stdout.startswith(f"Python {version}.")
    done = project.run(uv, "run", "train.py", "trainer.max_epochs=5", check=True, **variables)
    assert "best weights" in done.stdout
    assert done.stderr == ""
    project.run(uv, "run", "pytest", "-q", check=True, **variables)


@pytest.mark.slow
def test_project_installs_with_pip(bake: Bake, tmp_path: Path) -> None:
    """Not everybody has uv."""
    project = bake(project_name="With Pip", python_version="3.12")
    run("python", "-m", "venv", str(tmp_path / "env"), cwd=tmp_path)
    python = str(tmp_path / "env" / "bin" / "python")
    project.run(python, "-m", "pip", "install", "--quiet", "--editable", ".")
    project.run(python, "train.py", "trainer.max_epochs=2", check=True, **ON_CPU)
    package = "import with_pip, pathlib; print(pathlib.Path(with_pip.__file__).parent.parent)"
    found = run(python, "-c", package, cwd=tmp_path).stdout.strip()
    assert found == str(project.root)
