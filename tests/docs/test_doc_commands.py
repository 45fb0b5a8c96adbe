"""Every command and option of every page: readers type them as they stand.

The commands run word for word in new projects, those of `doc_elsewhere.py` excepted. Only what a
page leaves open is filled in (`<run>`), and the configs of these projects ask for two epochs, as
their owner could. So a command that is new on a page is run too, or has to be listed there.
"""

import csv
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from sklearn.datasets import load_diabetes

from ..conftest import ROOT, Bake, BakedProject
from ..support.doc_code import FENCED, read_blocks, read_commands, read_options
from ..support.doc_elsewhere import ELSEWHERE, Elsewhere
from ..support.doc_options import check_options, check_search_space
from ..support.labelled_texts import write_reviews
from ..support.own_data import write_book, write_flats, write_fruit
from ..support.training_runs import script

# Their blocks tell one story each; the tests of these files play them.
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))
STORIES = {
    "any-hydra-app.md": "test_any_hydra_app.py",
    "design.md": "test_design.py",
    "loggers.md": "test_logger_page.py",
    "updating.md": "test_doc_update.py",
    "wandb-sweeps.md": "test_wandb_sweeps.py",
    "your-own-model.md": "test_examples.py",
}
STORIES |= {
    f"recipes/{page.name}": "test_recipes.py" for page in RECIPES if page.name != "README.md"
}
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += RECIPES
LANGUAGES = {"bash", "console", "diff", "python", "text", "toml", "yaml"}
# Of the scripts; one of them has to take an option.
CONFIGS = ("train", "evaluate", "predict", "export", "serve")

# A run has to break off before a command can go on with it.
POWER_CUT = """
from pytorch_lightning import Callback


class PowerCut(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise RuntimeError("the power went off")
"""
BREAK_OFF = "python train.py +callbacks.power_cut._target_=power_cut.PowerCut"

# Code that looks like options, and is something else.
NO_OPTIONS = {"weights_only=True"}
# cli.py turns it into one that Hydra takes, `~data`.
REWRITTEN = {"data=null"}
# What a page leaves open.
FILLED_IN = {
    "callbacks.<name>": "callbacks.early_stopping",
    "[default,<name>]": "[default,swa]",
    "search_space=<name>": "search_space=digits",
    "study_name=<name>": "study_name=first",
    "hf/<folder>": "hf/folder",
    "hf/<name>": "hf/name",
    "tokenizer=<folder>": "tokenizer=folder",
    "<host>": "host",
    "layer=<name>": "layer=net.features",
    "<k>": "2",
    "run.dir=<run>": "run.dir=run",
    "weights=<file>": "weights=file",
}
# Options that mean something beside another one only.
BESIDE = {
    "hydra.sweeper.pruner.": "hydra/sweeper/pruner=promote",
    "data.target": "data=csv",
    "data.max_length": "data=text_csv",
    "data.text": "data=text_csv",
    "data.tokenizer": "data=text_csv",
    "data.tokens": "data=text",
    "callbacks.unfreezing": "callbacks=[unfreezing,default]",
    "data.backbone": "data=image_folder",
    "data.height": "data=image_folder",
    "data.width": "data=image_folder",
    "model.backbone": "model=finetune",
    "model.net.kernel": "model=text_encoder",
    "model.num_parts": "model=finetune",
    "model.rate_decay": "model=finetune",
    "model.weights": "model=finetune",
    "model.net.weights": "model=resnet18",
    "hydra.sweeper.address": "hydra.sweeper.workers=ray",
    "hydra.sweeper.sampler.parameter_constraints": "hydra/sweeper=ax",
    "data.group": "data=csv",
    "data.split_column": "data=csv",
}


@dataclass
class Reader:
    """Somebody who types the commands of a page into a project.

    Attributes:
        project: made for this reader.
        answers: what each command left, as far as it has been typed.
    """

    project: BakedProject
    answers: dict[str, "CompletedProcess[str]"] = field(default_factory=dict)

    def type(self, commands: list[str]) -> None:
        """Run the scripts that name no run or sweep, then those that do, then other programs."""
        # There is an environment already.
        commands = [re.sub(r"^uv run (?=\w+\.py)", "python ", command) for command in commands]
        scripts = [command for command in dict.fromkeys(commands) if is_script(command)]
        closed = [command for command in scripts if "<" not in command]
        self._run_scripts([*closed, BREAK_OFF])
        assert "the power went off" in self.answers.pop(BREAK_OFF).stderr
        self._run_scripts([command for command in scripts if command not in closed])
        for command in commands:
            if not is_script(command):
                words = ("bash", "-c", command.removeprefix("uv run "))
                self.answers[command] = self.project.run(*words, check=False)

    def _run_scripts(self, commands: list[str]) -> None:
        """Run scripts of the project."""
        folder = self.project.root.parent
        (folder / "power_cut.py").write_text(POWER_CUT, "utf-8")
        filled = [shlex.split(self.fill_in(c).removeprefix("python ")) for c in commands]
        for command, words in zip(commands, filled, strict=True):
            done = script(self.project, *words, check=False, python_path=str(folder))
            self.answers[command] = done

    def fill_in(self, command: str) -> str:
        """The command with the newest run and the newest sweep."""
        logs = self.project.root / "logs" / "train"
        if "<run>" in command:
            # Named by their time.
            names = sorted(path.name for path in logs.glob("runs/*"))
            # The newest was broken off, by something in its config.
            run = names[0] if "config.yaml" in command else names[-1]
            command = command.replace("<run>", run).replace("<other run>", names[0])
        if "<study>" in command:
            newest = max(logs.glob("sweeps/*"), key=lambda path: path.stat().st_mtime)
            command = command.replace("<study>", newest.name)
        return command

    def assert_all_went_well(self) -> None:
        """Every command ended as it should."""
        failed = {c: done.stderr for c, done in self.answers.items() if done.returncode != 0}
        assert failed == {}, "\n".join(f"{c}: {e[-300:]}" for c, e in failed.items())


def is_script(command: str) -> bool:
    """Whether a command is one of the project's own."""
    return re.match(r"python \w+\.py", command) is not None


def elsewhere(command: str) -> Elsewhere | None:
    """Why a command does not run here, if it does not."""
    found = (entry for entry in ELSEWHERE if re.fullmatch(entry.command, command))
    return next(found, None)


def is_sweep(command: str) -> bool:
    """Whether a command is a sweep, or needs one: together they take minutes."""
    return (" -m" in command or "<study>" in command) and elsewhere(command) is None


def commands_of(*pages: Path) -> list[str]:
    """The commands of pages, each once, without those that a story plays."""
    found = {}
    for page in pages:
        for command, in_block in read_commands(page).items():
            # A page and a recipe may have the same name.
            is_story = page.as_posix().partition("/docs/")[2] in STORIES
            if not (in_block and is_story):
                found[command] = page
    return list(found)


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    """For looking at: nothing is typed into it."""
    return bake(project_name="Pages", git="yes")


def make_reader(bake: Bake, name: str, start: str = "digits") -> Reader:
    """A project with files of its owner and short trainings."""
    project = bake(project_name=name, starting_point=start, git="yes")
    for file in (project.root / "configs").rglob("*.yaml"):
        text = file.read_text("utf-8")
        file.write_text(re.sub(r"max_epochs: \d+", "max_epochs: 2", text), "utf-8")
    write_fruit(project.root / "images", per_class=12)
    write_book(project.root / "book.txt", words=500)
    write_flats(project.root / "table.csv", rows=100)
    write_reviews(project.root / "reviews.csv")
    header, *rows = (project.root / "table.csv").read_text("utf-8").splitlines()
    more = [f"{row},{30 * i},{i % 2},{'yes' if i % 3 else 'no'}" for i, row in enumerate(rows)]
    table = "\n".join([f"{header.replace('dear', 'species')},rent,sunny,quiet", *more])
    (project.root / "table.csv").write_text(table, "utf-8")
    patients = load_diabetes(scaled=False)
    with (project.root / "patients.csv").open("w", newline="", encoding="utf-8") as new:
        csv.writer(new).writerows([patients.feature_names, *patients.data[:9]])
    return Reader(project)


# Commands


def test_blocks_say_their_language(project: BakedProject) -> None:
    """In a block of no language nobody looks for commands, and no reader sees its colours."""
    for page in (*PAGES, project.root / "README.md"):
        fences = re.findall(r"^```(.*)$", page.read_text("utf-8"), re.MULTILINE)
        assert set(fences[::2]) <= LANGUAGES, page.name
        assert set(fences[1::2]) <= {""}, page.name


def test_commands_run(bake: Bake) -> None:
    """The first commands that a newcomer types must not be the first that fail."""
    reader = make_reader(bake, "Novice")
    commands = commands_of(reader.project.root / "README.md", *PAGES)
    reader.type([c for c in commands if elsewhere(c) is None and not is_sweep(c)])
    reader.assert_all_went_well()
    # The page ends with renaming the package, which runs are to outlive, and so its notebook.
    blocks = read_blocks(reader.project.root / "README.md")
    (notebook,) = (block.code for block in blocks if block.language == "python")
    assert "from workbench import load_run" in notebook
    script(reader.project, "-c", reader.fill_in(notebook))


@pytest.mark.slow
def test_sweeps_run(bake: Bake) -> None:
    """A sweep is left alone for the night, and nobody is there when it ends at once."""
    reader = make_reader(bake, "Sweeper")
    commands = commands_of(reader.project.root / "README.md", *PAGES)
    reader.type([c for c in commands if is_sweep(c)])
    reader.assert_all_went_well()
    (grid,) = (c for c in reader.answers if c.endswith("seed=0,1"))
    assert "6 trials" in reader.answers[grid].stdout, "more than the page says has varied"


@pytest.mark.slow
def test_commands_of_a_regression_run(bake: Bake) -> None:
    """The page of a project that starts with a table must not speak of pictures."""
    reader = make_reader(bake, "Doctor", "diabetes")
    commands = commands_of(reader.project.root / "README.md")
    reader.type([c for c in commands if elsewhere(c) is None])
    reader.assert_all_went_well()


def test_commands_elsewhere_are_right(project: BakedProject) -> None:
    """What cannot run here is looked at in another way, and the list holds nothing else."""
    commands = commands_of(project.root / "README.md", *PAGES)
    for command in commands:
        entry = elsewhere(command)
        if entry is not None:
            entry.check(project, command)
    for entry in ELSEWHERE:
        assert any(re.fullmatch(entry.command, command) for command in commands), entry


# Options


def test_options_mean_something(project: BakedProject) -> None:
    """An option in the text is copied to the command line like one in a block."""
    pages: dict[str, list[str]] = {}
    for page in (*PAGES, project.root / "README.md"):
        for option in set(read_options(page)) - NO_OPTIONS - REWRITTEN:
            pages.setdefault(option, []).append(page.name)
    refused = {}
    for option, names in pages.items():
        words = shlex.split(fill_in(option))
        words += [other for name, other in BESIDE.items() if words[0].startswith(name)]
        objection = answer(project, CONFIGS[0], words)
        if objection and all(answer(project, config, words) for config in CONFIGS[1:]):
            refused[option, *names] = objection
    assert refused == {}


def fill_in(option: str) -> str:
    """The option with examples of what the page leaves open."""
    for part, example in FILLED_IN.items():
        option = option.replace(part, example)
    return option


def answer(project: BakedProject, config: str, options: list[str]) -> str:
    """What is said against options, "" for nothing."""
    try:
        check_options(project, config, options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def test_search_space_of_the_page_can_be_used(project: BakedProject) -> None:
    """It shows all that a search space can hold, so people begin with a copy of it."""
    (block,) = (b for b in read_blocks(ROOT / "docs" / "sweeps.md") if b.language == "yaml")
    assert block.code.startswith("# @package hydra.sweeper.search_space\n")
    check_search_space(project, yaml.safe_load(block.code))


# Links


def test_links_lead_somewhere(project: BakedProject) -> None:
    """A page that is moved or a heading that is reworded leaves its readers nowhere."""
    for page in (*PAGES, project.root / "README.md"):
        text = FENCED.sub("", page.read_text("utf-8"))
        for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), (page.name, link)
            assert not anchor or anchor in anchors(target), (page.name, link)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
