"""Deletes an optional feature from a copy of a project, and checks what is left."""

import shutil
from pathlib import Path

from ..conftest import BakedProject
from .training_runs import script

# What the commands of other tests leave behind.
LEFT_OUT = (".git", "__pycache__", ".ruff_cache", ".mypy_cache", "data", "logs", "multirun")
# Modules may need packages that are not installed. A config without a defaults list can only refer
# to something deleted by the name of an object.
IMPORT_AND_COMPOSE = """
import importlib, pkgutil, re, sys
from pathlib import Path
from hydra import compose, initialize_config_dir

own = sys.argv[1]


def load(module, attribute=""):
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name.partition(".")[0] in (own, "workbench"):
            raise
        print("without", error.name, "no", module)
    else:
        assert not attribute or hasattr(loaded, attribute), (module, attribute)


for package in (own, "workbench"):
    path = importlib.import_module(package).__path__
    for module in pkgutil.walk_packages(path, f"{package}."):
        load(module.name)
importlib.import_module("workbench.runs.directory").register_resolvers()
configs = Path("configs").absolute()
with initialize_config_dir(str(configs), version_base="1.3"):
    for file in sorted(configs.rglob("*.yaml")):
        text = file.read_text("utf-8")
        for name in re.findall(rf"(?:_target_|function): ((?:{own}|workbench)\\.\\S+)", text):
            load(*name.rsplit(".", 1))
        for name in re.findall(r"engine: (workbench\\.\\S+)", text):
            load(name)
        group = file.parent.relative_to(configs).as_posix()
        if group == ".":
            compose(file.stem, return_hydra_config=True)
        elif re.search("^defaults:", text, re.MULTILINE) or group == "hydra/sweeper":
            compose("train", [f"{group}={file.stem}"], return_hydra_config=True)
"""


def without(project: BakedProject, folder: Path, *patterns: str) -> BakedProject:
    """A copy of a project without the files and folders that the patterns match."""
    copy = folder / project.root.name
    # The package has a folder of this name too.
    ignored = shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(
        project.root,
        copy,
        ignore=lambda place, names: ignored(place, names) if place == str(project.root) else [],
    )
    for pattern in patterns:
        found = sorted(copy.glob(pattern))
        assert found, f"nothing matches {pattern}"
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return BakedProject(copy)


def check_rest(project: BakedProject) -> None:
    """Lint the project, import all of its modules and compose all of its configs."""
    project.run("ruff", "check", "--no-cache", ".")
    package = next(project.root.glob("*/training.py")).parent.name
    script(project, "-c", IMPORT_AND_COMPOSE, package)


def check_types(project: BakedProject, cache: Path) -> None:
    """Check the types of the project; the cache is for several projects."""
    project.run("mypy", f"--cache-dir={cache}", ".")
