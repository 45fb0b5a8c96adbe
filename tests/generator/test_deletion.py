"""Optional features that a project does without: their files are deleted, and the rest works.

The engines of sweeps have a test of their own, `tests/sweeps/test_deletion.py`.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.deletion import check_rest, check_types, without
from ..support.sweeps import LR, SMALL, sweep
from ..support.training_runs import script

SINK, DEFAULTS = "configs/experiment/kitchen_sink.yaml", "configs/evaluate.yaml"
ANALYSES = "classes, losses, confusion, calibration, misclassified, residuals, pca, samples"


@dataclass(frozen=True)
class Option:
    """An optional feature.

    Attributes:
        paths: what to delete.
        choice: how a command selects it; empty for one that has a script of its own.
        lines: what to replace in the files that list it.
        names: files that import and list classes, and the class that is deleted.
    """

    paths: tuple[str, ...]
    choice: str = ""
    lines: dict[str, tuple[str, str]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


def unlist(text: str, name: str) -> str:
    """The lines of a module without the import of a class, and without its name in lists."""
    lines = (rf"from \S+ import {name}", rf'    "{name}",', rf'    "\w+": {name},')
    for line in lines:
        text = re.sub(rf"^{line}\n", "", text, flags=re.MULTILINE)
    return text.replace(f'"{name}", ', "")


def logger(module: str, name: str, lines: dict[str, tuple[str, str]] | None = None) -> Option:
    """A logger: a module and a config."""
    paths = (f"workbench/loggers/{module}.py", f"configs/logger/{name}.yaml")
    return Option(paths, f"logger={name}", lines or {})


def analysis(name: str) -> Option:
    """An analysis of `evaluate.py`: a module, a config and its place among the defaults."""
    rest = ", ".join(other for other in ANALYSES.split(", ") if other != name)
    paths = (f"demo/analysis/{name}.py", f"configs/analyses/{name}.yaml")
    return Option(paths, f"analyses=[{name}]", {DEFAULTS: (f"[{ANALYSES}]", f"[{rest}]")})


OPTIONS = {
    "csv": logger("csv_file", "csv", {SINK: ("[tensorboard, csv]", "tensorboard")}),
    "mlflow": logger("mlflow", "mlflow"),
    "tensorboard": logger(
        "tensorboard",
        "tensorboard",
        {
            SINK: ("[tensorboard, csv]", "csv"),
            "configs/train.yaml": ("logger: tensorboard", "logger: csv"),
        },
    ),
    "wandb": logger("wandb", "wandb"),
    "server": Option(("serve.py", "configs/serve.yaml", "workbench/serving.py")),
    "export": Option(("export.py", "configs/export.yaml", "workbench/exporting.py")),
    "simclr": Option(
        (
            "demo/models/simclr",
            "configs/model/simclr.yaml",
            "configs/experiment/digits_simclr.yaml",
            "tests/test_simclr.py",
        ),
        "model=simclr",
    ),
    "mnist1d": Option(
        (
            "demo/data/mnist1d.py",
            "configs/data/mnist1d.yaml",
            "configs/experiment/mnist1d.yaml",
            "configs/search_space/mnist1d.yaml",
        ),
        "data=mnist1d",
        names={"demo/data/__init__.py": "MNIST1DDataModule"},
    ),
    "finetune": Option(
        (
            "demo/models/fine_tuned.py",
            "configs/experiment/finetune.yaml",
            "configs/experiment/text_finetune.yaml",
            "configs/model/finetune.yaml",
            "configs/search_space/finetune.yaml",
            "tests/test_fine_tuned.py",
        ),
        "model=finetune",
    ),
    "text": Option(
        (
            "demo/models/gpt",
            "demo/data/text.py",
            "demo/analysis/samples.py",
            "configs/analyses/samples.yaml",
            "configs/data/text.yaml",
            "configs/experiment/text.yaml",
            "configs/model/gpt.yaml",
            "configs/search_space/text.yaml",
            "tests/test_text.py",
        ),
        "model=gpt",
        {DEFAULTS: (", samples]", "]")},
        {"demo/data/__init__.py": "TextDataModule"},
    ),
    "text_csv": Option(
        (
            "demo/data/text_csv.py",
            "demo/models/nets/text_encoder.py",
            "configs/data/text_csv.yaml",
            "configs/experiment/text_csv.yaml",
            "configs/experiment/text_finetune.yaml",
            "configs/model/text_encoder.yaml",
            "configs/model/text_regressor.yaml",
            "tests/test_text_csv.py",
        ),
        "model=text_encoder",
        names={
            "demo/data/__init__.py": "TextCSVDataModule",
            "demo/models/nets/__init__.py": "TextEncoder",
        },
    ),
} | {name: analysis(name) for name in ANALYSES.split(", ")}
# A script and a function; the others are deleted in the same way.
FAST = ("server", "pca")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in OPTIONS
    ],
)
def name(request: pytest.FixtureRequest) -> str:
    """The option to delete."""
    return str(request.param)


@pytest.fixture(scope="module")
def rest(name: str, demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> BakedProject:
    """The project without the option."""
    option = OPTIONS[name]
    project = without(demo, tmp_path_factory.mktemp("without"), *option.paths)
    for file, (old, new) in option.lines.items():
        text = project.read(file)
        assert text.count(old) == 1, (file, old)
        (project.root / file).write_text(text.replace(old, new), "utf-8")
    for file, name in option.names.items():
        text = project.read(file)
        assert name in text, (file, name)
        (project.root / file).write_text(unlist(text, name), "utf-8")
    return project


def test_rest_imports_and_composes(rest: BakedProject) -> None:
    """A forgotten import shows only when that module runs."""
    check_rest(rest)


def test_rest_trains_evaluates_and_sweeps(rest: BakedProject, tmp_path: Path) -> None:
    """A feature that cannot be left out is not optional."""
    run = tmp_path / "run"
    with_default_logger = [word for word in SMALL if not word.startswith("logger=")]
    script(rest, "train.py", f"hydra.run.dir={run}", *with_default_logger)
    best = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    script(rest, "evaluate.py", best, f"hydra.run.dir={tmp_path / 'evaluation'}")
    assert list((tmp_path / "evaluation" / "figures").glob("*.png"))
    swept = sweep(rest, tmp_path / "study", LR, "hydra.sweeper.n_trials=2", "test=false")
    assert swept.states() == {"COMPLETE": 2}


def test_selecting_it_is_an_unknown_choice(name: str, rest: BakedProject, tmp_path: Path) -> None:
    """Nobody wants to read an ImportError."""
    choice = OPTIONS[name].choice
    if not choice:
        assert not (rest.root / OPTIONS[name].paths[0]).exists()
        return
    group, _, value = choice.partition("=")
    command = ("evaluate.py", "ckpt_path=best") if group == "analyses" else ("train.py",)
    done = script(rest, *command, choice, f"hydra.run.dir={tmp_path / 'run'}", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: There is no {group}={value.strip('[]')}; ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="session")
def types_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For the types of torch, which take most of the time."""
    return tmp_path_factory.mktemp("mypy")


@pytest.mark.slow
def test_rest_has_sound_types(rest: BakedProject, types_cache: Path) -> None:
    """A name that is gone is otherwise noticed only by the next type check."""
    check_types(rest, types_cache)
