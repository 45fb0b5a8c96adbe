"""The import graph of `workbench`: layers, no cycles, and optional packages only in their places.

The graph is computed from the source, so that deferred imports and those below `TYPE_CHECKING`
count like all others.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1] / "{{=cookiecutter.project_slug}}"
LIBRARY = "workbench"

# From the bottom to the top: a module imports only from its own layer and from lower ones.
LAYERS = {
    "helpers": {
        "checks",
        "composing",
        "config_headers",
        "env_file",
        "errors",
        "experiment_files",
        "files",
        "floats",
        "group_help",
        "hydra_errors",
        "lightning_names",
        "machine",
        "project",
        "redact",
        "seeding",
        "shell",
        "user_text",
    },
    "records of a run": {"runs"},
    "parts of a run": {
        "callbacks",
        "data",
        "figures",
        "finders",
        "loggers",
        "models",
        "profilers",
        "step_costs",
    },
    "construction of a run": {
        "assembly",
        "building",
        "config_checks",
        "objective",
        "sharding",
        "signatures",
    },
    "construction from a checkpoint": {"loading", "rebuilding"},
    "work with a run": {
        "analysis",
        "dry_run",
        "evaluation",
        "exporting",
        "loader_predictions",
        "prediction",
        "prediction_columns",
        "serving",
        "training_run",
    },
    "sweeps": {"sweeps"},
    "entry points": {"cli", "folds", "schemas"},
}
# Every project has these; any module may import them.
REQUIRED = {
    "PIL",
    "dotenv",
    "hydra",
    "lightning_fabric",
    "lightning_utilities",
    "matplotlib",
    "numpy",
    "omegaconf",
    "optuna",
    "plotly",
    "polars",
    "psutil",
    "pytorch_lightning",
    "rich",
    "sklearn",
    "sqlalchemy",
    "tensorboard",
    "torch",
    "torchmetrics",
    "torchvision",
    "yaml",
}
# Packages of the extras, and where they may be imported.
OPTIONAL = {
    "ax": "sweeps.ax",
    "fastapi": "serving",
    "huggingface_hub": "models.backbones.hub",
    "mlflow": "loggers.mlflow",
    "onnx": "exporting",
    "onnxruntime": "exporting",
    "ray": ("sweeps.ray_cluster", "sweeps.ray_tune"),
    "safetensors": "models.pretrained",
    "starlette": "serving",
    "tokenizers": "data.text_codes",
    "uvicorn": "serving",
    "wandb": "loggers.wandb",
}
# They can be deleted from a project, so nothing imports them but what is then deleted too.
DELETABLE: dict[str, tuple[str, ...]] = {
    "exporting": (),
    "serving": (),
    "sweeps.ax": (),
    "sweeps.ray_cluster": ("sweeps.ray_tune",),
    "sweeps.ray_tune": (),
}

Graph = dict[str, set[str]]


def name_of(path: Path) -> str:
    """For example `workbench.runs.table`; a package has the name of its folder."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted((PROJECT / LIBRARY).rglob("*.py"))}


def imports_of(name: str) -> Iterator[str]:
    """The absolute names of everything that a module imports, at any depth of its source."""
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{source}.{alias.name}"
                yield full if full in FILES else source


def with_parents(name: str) -> Iterator[str]:
    """A module and the packages that it lies in, which importing it imports too."""
    while name:
        yield name
        name = name.rpartition(".")[0]


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The modules of the library that each of them imports."""
    found: Graph = {}
    for name in FILES:
        own = set(with_parents(name))
        targets = {target for full in imports_of(name) for target in with_parents(full)}
        found[name] = (targets & FILES.keys()) - own
    return found


def part_of(name: str) -> str:
    """The top-level module or package of the library that a module lies in."""
    return name.split(".")[1]


def lies_in(name: str, places: str | Sequence[str]) -> bool:
    places = (places,) if isinstance(places, str) else places
    return any(f"{name}.".startswith(f"{LIBRARY}.{place}.") for place in places)


def test_every_part_has_a_layer() -> None:
    parts = {part_of(name) for name in FILES if name != LIBRARY}
    named = [part for layer in LAYERS.values() for part in layer]
    assert sorted(named) == sorted(parts)


def test_no_module_imports_itself_through_others(graph: Graph) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"cycle of imports: {' <- '.join(error.args[1])}")


def test_imports_point_downward(graph: Graph) -> None:
    """The library itself, which names what a notebook needs, is above all layers."""
    height = {part: i for i, layer in enumerate(LAYERS.values()) for part in layer}
    upward = [
        f"{name} -> {target}"
        for name, targets in graph.items()
        for target in targets
        if name != LIBRARY and height[part_of(name)] < height[part_of(target)]
    ]
    assert upward == []


def test_nothing_imports_what_can_be_deleted(graph: Graph) -> None:
    found = [
        f"{name} -> {target}"
        for name, targets in graph.items()
        for target in targets
        for place, users in DELETABLE.items()
        if lies_in(target, place) and not lies_in(name, (place, *users))
    ]
    assert found == []


def test_packages_are_imported_where_they_may_be() -> None:
    """So the library imports neither the project's package nor what only an extra installs."""
    allowed = {LIBRARY, *REQUIRED, *sys.stdlib_module_names}
    found = [
        f"{name} imports {full}"
        for name in FILES
        for full in imports_of(name)
        if (package := full.partition(".")[0]) not in allowed
        and not (package in OPTIONAL and lies_in(name, OPTIONAL[package]))
    ]
    assert found == []
