"""Engines of sweeps that a project does without: their files are deleted, and the rest works."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.deletion import check_rest, check_types, without
from ..support.modules import project_module
from ..support.sweeps import LR, sweep
from ..support.template_package import PACKAGE
from ..support.training_runs import script

TUNE = (
    "workbench/sweeps/ray_tune",
    "configs/hydra/sweeper/ray.yaml",
    "configs/hydra/sweeper/sampler/bohb.yaml",
    "configs/hydra/sweeper/sampler/hyperopt.yaml",
    "configs/hydra/sweeper/pruner/bohb.yaml",
    "configs/hydra/sweeper/pruner/pb[t2].yaml",
)


@dataclass(frozen=True)
class Engine:
    """What to delete, and how a command is answered that selects it."""

    paths: tuple[str, ...]
    answers: dict[str, str]


ENGINES = {
    "ax": Engine(
        ("workbench/sweeps/ax", "configs/hydra/sweeper/**/ax.yaml"),
        {
            "hydra/sweeper=ax": "There is no hydra/sweeper=ax; there are: optuna, ray",
            "hydra/sweeper/pruner=ax": "There is no hydra/sweeper/pruner=ax; ",
        },
    ),
    "ray_tune": Engine(
        TUNE,
        {
            "hydra/sweeper=ray": "There is no hydra/sweeper=ray; there are: ax, optuna",
            "hydra/sweeper/pruner=pbt": "There is no hydra/sweeper/pruner=pbt; ",
        },
    ),
    "ray_cluster": Engine(
        ("workbench/sweeps/ray_cluster.py", *TUNE),
        {
            "hydra.sweeper.workers=ray": (
                "hydra.sweeper.workers must be an integer of at least 1, or null, not 'ray'."
            ),
        },
    ),
}


# What may be imported where only: our modules and other packages, below `workbench/sweeps/`.
OPTIONAL = {
    "workbench.sweeps.ax": ("ax",),
    "workbench.sweeps.ray_tune": ("ray_tune",),
    "workbench.sweeps.ray_cluster": ("ray_cluster.py", "ray_tune"),
    "ax": ("ax",),
    "ray": ("ray_cluster.py", "ray_tune"),
}


def imports(file: Path, library: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = file.relative_to(library.parent).parts[: -node.level] if node.level else ()
            module = ".".join([*parts, *filter(None, [node.module])])
            yield from (f"{module}.{name.name}" for name in node.names)


def test_engines_are_imported_by_name_only() -> None:
    """An import in a function shows when somebody has deleted the engine and calls it."""
    library = PACKAGE.parent / "workbench"
    for file in sorted(library.rglob("*.py")):
        for module in imports(file, library):
            for optional, places in OPTIONAL.items():
                if f"{module}.".startswith(f"{optional}."):
                    inside = [library / "sweeps" / place for place in places]
                    assert any(file.is_relative_to(place) for place in inside), (file, module)


@pytest.fixture(
    scope="module",
    params=[
        # Without the cluster there is no Ray Tune either.
        pytest.param(name, marks=[pytest.mark.slow] if name == "ray_tune" else [])
        for name in ENGINES
    ],
)
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine to delete."""
    return ENGINES[request.param]


@pytest.fixture(scope="module")
def rest(
    engine: Engine, demo: BakedProject, tmp_path_factory: pytest.TempPathFactory
) -> BakedProject:
    """The project without the engine."""
    return without(demo, tmp_path_factory.mktemp("without"), *engine.paths)


def test_rest_imports_and_composes(rest: BakedProject) -> None:
    """A forgotten import shows only when that module runs."""
    check_rest(rest)


def test_rest_trains_and_sweeps(rest: BakedProject, tmp_path: Path) -> None:
    """A feature that cannot be deleted is not optional."""
    small = ("trainer.max_epochs=1", "trainer.limit_train_batches=2", "logger=none")
    script(rest, "train.py", f"hydra.run.dir={tmp_path / 'run'}", *small)
    assert (tmp_path / "run" / "run.json").is_file()
    swept = sweep(rest, tmp_path / "study", LR, "hydra.sweeper.n_trials=2")
    assert swept.states() == {"COMPLETE": 2}


def test_selecting_it_is_an_unknown_choice(
    engine: Engine, rest: BakedProject, tmp_path: Path
) -> None:
    """Nobody wants to read an ImportError."""
    for option, answer in engine.answers.items():
        swept = sweep(rest, tmp_path / "none", LR, option, check=False)
        assert answer in swept.printed
        assert len(swept.printed.splitlines()) == 1


def test_unknown_module_of_an_engine_is_told(sweeps_package: Callable[[str], Any]) -> None:
    """Who deletes the folder of an engine may have kept its config."""
    user_error = project_module("demo", "errors").UserError
    with pytest.raises(user_error, match=r"no such module: .*<one of ax, optuna, ray>"):
        sweeps_package("engines").load_engine("workbench.sweeps.nothing")


@pytest.fixture(scope="session")
def types_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the types of torch, which take most of the time."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
def test_rest_has_sound_types(rest: BakedProject, types_cache: Path) -> None:
    """A type that is gone shows in the next lint only."""
    check_types(rest, types_cache)
