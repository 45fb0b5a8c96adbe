"""The schemas of config files: editors accept what is right, and underline what is misspelt."""

import json
import re
import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from omegaconf import OmegaConf

from ..conftest import Bake, BakedProject

# Their files name neither a class nor options of one.
WITHOUT = {"paths", "hydra"}


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    """A project as it is generated."""
    return bake()


def read(file: Path) -> Any:
    """A config file as Hydra reads it, with references as text."""
    return OmegaConf.to_container(OmegaConf.load(file), resolve=False)


def mapped(project: BakedProject) -> dict[str, str]:
    """The schema that VS Code applies to each config file."""
    settings = json.loads(project.read(".vscode/settings.json"))["yaml.schemas"]
    found: dict[str, str] = {}
    for schema, patterns in settings.items():
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            for file in project.files():
                # A pattern does not cross folders.
                if fnmatch(file, pattern) and file.count("/") == pattern.count("/"):
                    assert file not in found
                    found[file] = schema
    return found


def errors(project: BakedProject, group: str, content: Any) -> list[str]:
    """What an editor underlines in a file of a group."""
    schema = json.loads(project.read(f"configs/.schemas/{group}.json"))
    jsonschema.Draft7Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(content)]


def test_every_config_file_has_a_schema_and_follows_it(project: BakedProject) -> None:
    """An editor that underlines the files of a new project teaches people to ignore it."""
    files = {f for f in project.files() if re.fullmatch(r"configs/\w+/\w+\.yaml", f)}
    schemas = mapped(project)
    assert schemas.keys() == {f for f in files if f.split("/")[1] not in WITHOUT}
    wrong = {
        file: found
        for file, schema in schemas.items()
        if (found := errors(project, Path(schema).stem, read(project.root / file)))
    }
    assert wrong == {}


def test_pycharm_applies_the_same_schemas(project: BakedProject) -> None:
    """PyCharm has a file of its own for this."""
    root = ElementTree.fromstring(project.read(".idea/jsonSchemas.xml"))
    found = {}
    for info in root.iter("SchemaInfo"):
        options = {option.get("name"): option.get("value") for option in info.findall("option")}
        for option in info.iter("option"):
            if option.get("name") == "path":
                found[option.get("value")] = options["relativePathToSchema"]
    schemas = {str(Path(file).parent): schema for file, schema in mapped(project).items()}
    assert found == {folder: schema.removeprefix("./") for folder, schema in schemas.items()}


# A file of each group with one mistake, and the word that is underlined.
MISSPELT = {
    "analyses": ("confusion: {function: a.b, task: [classification]}", "task"),
    "callbacks": ("swa: {_target_: workbench.callbacks.SWA, strat: 0.5}", "strat"),
    "data": ("{_target_: my_project.data.digits.DigitsDataModule, batchsize: 1}", "batchsize"),
    "experiment": ("optimiser: {lr: 0.1}", "optimiser"),
    "finders": ("lr: {_target_: workbench.finders.LearningRateFinder, steps: 5}", "steps"),
    "logger": ("csv: {_target_: workbench.loggers.csv_file.CSVLogger, save_dirs: a}", "save_dirs"),
    "model": ("{_target_: my_project.models.gpt.GPT, n_layers: 4}", "n_layers"),
    "optimizer": ("{name: AdamW, weightdecay: 0.1}", "weightdecay"),
    "profiler": ("profiler: {_target_: workbench.profilers.SimpleProfiler, dir: a}", "dir"),
    "scheduler": ("{name: cosine, patience: 3}", "patience"),
    "search_space": ("optimiser.lr: interval(0.1, 1)", "optimiser.lr"),
    "trainer": ("{_target_: pytorch_lightning.Trainer, max_epoch: 5}", "max_epoch"),
}
# Other mistakes.
WRONG = {
    "a file that changes another": ("model", "{defaults: [cnn], n_layers: 4}", "n_layers"),
    "an option of an experiment": ("experiment", "trainer: {max_epoch: 5}", "max_epoch"),
    "a callback of an experiment": (
        "experiment",
        "callbacks: {early_stopping: {patients: 5}}",
        "patients",
    ),
    "the name of a callback": (
        "experiment",
        "callbacks: {early_stoping: {patience: 5}}",
        "_target_",
    ),
    "a text for a number": (
        "callbacks",
        "swa: {_target_: workbench.callbacks.SWA, start: half}",
        "half",
    ),
    "a name": ("optimizer", "{name: AdamV}", "AdamV"),
}
# They must not be underlined.
RIGHT = {
    "a reference": ("trainer", "{_target_: pytorch_lightning.Trainer, max_epochs: '${epochs}'}"),
    "a class without a schema": ("model", "{_target_: my_project.models.mine.Mine, depth: 3}"),
    "a new callback": ("experiment", "callbacks: {mine: {_target_: mine.Mine, depth: 3}}"),
    "a callback left out": ("experiment", "callbacks: {early_stopping: null}"),
    "an override": ("experiment", "{defaults: [override /model: cnn], model: {net: {width: 3}}}"),
    "an option of another optimizer": ("experiment", "optimizer: {momentum: 0.9}"),
    "an argument of Hydra": ("model", "{_target_: my_project.models.gpt.GPT, _convert_: all}"),
}


@pytest.mark.parametrize("group", MISSPELT)
def test_misspelt_key_is_underlined(project: BakedProject, group: str) -> None:
    """A misspelt key that is only noticed when the run is started, on another machine."""
    text, word = MISSPELT[group]
    found = errors(project, group, yaml.safe_load(text))
    assert found and word in " ".join(found)


def test_every_group_has_such_a_test(project: BakedProject) -> None:
    schemas = {Path(schema).stem for schema in mapped(project).values()}
    assert schemas == MISSPELT.keys()


@pytest.mark.parametrize("case", WRONG)
def test_other_mistakes_are_underlined(project: BakedProject, case: str) -> None:
    group, text, word = WRONG[case]
    found = errors(project, group, yaml.safe_load(text))
    assert found and word in " ".join(found)


@pytest.mark.parametrize("case", RIGHT)
def test_right_values_are_not_underlined(project: BakedProject, case: str) -> None:
    group, text = RIGHT[case]
    assert errors(project, group, yaml.safe_load(text)) == []


MODEL = """
from pytorch_lightning import LightningModule

class Mine(LightningModule):
    '''A model.

    Args:
        depth: the number of layers.
    '''

    def __init__(self, depth: int = 3, names=None):
        super().__init__()
"""


def test_schemas_follow_the_classes_of_a_project(bake: Bake) -> None:
    """Schemas that lag behind underline right keys; the hook writes them anew at each commit."""
    project = bake(project_name="Own classes", package_name="theirs")
    shipped = {f: project.read(f) for f in project.files() if f.startswith("configs/.schemas/")}
    (project.root / "theirs" / "models" / "mine.py").write_text(MODEL)
    config = "_target_: theirs.models.mine.Mine\ndepth: 3\n"
    (project.root / "configs" / "model" / "mine.yaml").write_text(config)
    broken = "_target_: theirs.models.missing.Missing\n"
    (project.root / "configs" / "model" / "broken.yaml").write_text(broken)
    done = project.run_warm("-m", "workbench.schemas")
    assert "any keys for theirs.models.missing.Missing: " in done.stderr
    assert errors(project, "model", read(project.root / "configs/model/mine.yaml")) == []
    wrong = {"_target_": "theirs.models.mine.Mine", "dept": 3}
    assert "'dept'" in " ".join(errors(project, "model", wrong))
    definition = json.loads(project.read("configs/.schemas/model.json"))["definitions"]
    described = definition["models.mine.Mine"]["properties"]["depth"]["description"]
    assert described == "the number of layers."
    # The shipped schemas are those of the classes that come with a project. Those of Lightning and
    # torch, and of loggers derived from them, depend on their versions.
    for file, text in shipped.items():
        before, after = json.loads(text), json.loads(project.read(file))
        for name, schema in before.get("definitions", {}).items():
            if name.startswith(("workbench.", "models.", "data.")) and "loggers." not in name:
                assert after["definitions"][name] == schema, (name, "run `make schemas`")
    # A second run changes nothing.
    assert project.run_warm("-m", "workbench.schemas").stdout == ""


def test_help_describes_a_group(project: BakedProject) -> None:
    """With 25 callbacks, a list of names does not help to choose one."""
    done = project.run("python", "train.py", "--help", "callbacks")
    lines = done.stdout.splitlines()
    assert lines[0] == "callbacks=<choice> selects one of configs/callbacks/:"
    shown = [line.split()[0] for line in lines if line.startswith("  ")]
    assert shown == sorted(p.stem for p in (project.root / "configs" / "callbacks").glob("*.yaml"))
    assert any(re.match(r"  nan_guard +Stops at the first non-finite loss", line) for line in lines)
    assert max(map(len, lines)) <= 100
    done = project.run("python", "train.py", "hydra/sweeper/pruner/asha", "--help")
    assert done.stdout == project.read("configs/hydra/sweeper/pruner/asha.yaml")
    done = project.run("python", "train.py", "--help", "modle", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: There is no config group 'modle'; did you mean 'model'?\n"
    # With an option, it is Hydra's own help.
    done = project.run("python", "train.py", "--help", "model=mlp")
    assert "name: mlp" in done.stdout
