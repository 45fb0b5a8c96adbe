"""The project of the open world's tests."""

from collections.abc import Callable, Iterator

import pytest

from ..conftest import BakedProject
from ..support.in_process import on_one_thread
from .world import PACKAGE, World, add_code

Bake = Callable[..., BakedProject]


@pytest.fixture(scope="session")
def their_project(bake: Bake) -> BakedProject:
    """A generated project with the code of `added/`."""
    project = bake(project_name="Theirs", package_name=PACKAGE)
    add_code(project)
    return project


@pytest.fixture(scope="session")
def world(their_project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The same, trained in this process."""
    folder = tmp_path_factory.mktemp("open_world")
    with on_one_thread(their_project.root, folder) as project:
        yield World(project.root, project.folder)


@pytest.fixture(autouse=True)
def in_project(their_project: BakedProject, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run from the project's folder, as its owner does."""
    monkeypatch.chdir(their_project.root)
