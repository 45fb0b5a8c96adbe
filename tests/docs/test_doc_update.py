"""The page about updates: its commands run in their order and print what it says."""

import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from ..conftest import ROOT, run
from ..generator.test_update import commit_all, edit
from ..support.doc_code import Block, read_blocks

PAGE = ROOT / "docs" / "updating.md"
# The name, Enter for what is asked next, and no continuous integration: that is added later. The
# last Enter is for the commit that a project is linked to.
ANSWERS = "Tiny Nets" + "\n" * 10 + "3\n\n\n"
ADA = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
TRAIN = "configs/train.yaml"
ERRORS = "workbench/errors.py"


class Story:
    """The owner of a project, who types what the page says, and the author of its template.

    Args:
        folder: where the project is made.
        template: a copy of the template.
    """

    def __init__(self, folder: Path, template: Path) -> None:
        self.folder, self.template = folder, folder / "template"
        self.project = folder / "tiny-nets"
        shutil.copytree(template, self.template)
        run("git", "init", "--quiet", "--initial-branch=main", cwd=self.template)
        commit_all(self.template)
        self.first = run("git", "rev-parse", "HEAD", cwd=self.template).stdout.strip()
        (folder / "answers").write_text(ANSWERS)

    def play(self, block: Block) -> None:
        """Type the commands of a block, and compare."""
        for entry in block.code.split("$ ")[1:]:
            command, *shown = filter(None, entry.splitlines())
            printed = self.type(command)
            rest = iter(printed.splitlines())
            # In this order, with other lines between: the page shows what matters.
            for line in shown:
                assert line.startswith("@@") or line in rest, (command, line, printed)

    def type(self, command: str) -> str:
        """Run a command and return what it prints."""
        words = f"{{ {command.replace('<commit>', self.first)}; }} 2>&1 < {self.folder}/answers"
        place = self.project if self.project.exists() else self.folder
        variables = {"TEMPLATE": str(self.template), **ADA}
        done = run("bash", "-c", words, cwd=place, check=False, **variables)
        # It tells by its exit code that there is something new.
        assert done.returncode == 0 or command == "cruft check", done.stdout
        return done.stdout

    def change_template(self, file: str, old: str, new: str) -> None:
        """A new version of the template."""
        edit(next(self.template.glob("{{=*")) / file, old, new)
        commit_all(self.template)

    def change_project(self, file: str, old: str, new: str) -> None:
        """The owner edits and commits."""
        edit(self.project / file, old, new)
        commit_all(self.project)


def before_check(story: Story) -> None:
    story.type('git add .cruft.json && git commit -m "Link to the template"')
    story.change_project(TRAIN, "seed: 42", "seed: 7")
    story.change_template(TRAIN, "test: true", "test: false")


def before_conflict(story: Story) -> None:
    story.type('git commit -am "Update from the template"')
    story.change_template(TRAIN, "seed: 42", "seed: 1")


def before_patch(story: Story) -> None:
    story.change_project(ERRORS, "import difflib\n", "import difflib  # mine\n")
    file = next(story.template.glob("{{=*")) / ERRORS
    file.write_text(f"{file.read_text('utf-8')}\n# New.\n", "utf-8")
    commit_all(story.template)


def before_link(story: Story) -> None:
    shutil.rmtree(story.project)
    run(
        "cookiecutter",
        str(story.template),
        "--no-input",
        "project_name=Tiny Nets",
        cwd=story.folder,
    )


# What happens before the blocks of a part of the page.
BEFORE: dict[str, Callable[[Story], None]] = {
    "Check for updates": before_check,
    "Conflicts": before_conflict,
    "If you have patched the library": before_patch,
    "A project made without cruft": before_link,
}


@pytest.fixture
def story(template: Path, tmp_path: Path) -> Story:
    return Story(tmp_path, template)


@pytest.mark.slow
def test_commands_of_the_page_print_what_it_shows(story: Story) -> None:
    """People compare, line by line, when they merge a template into their work."""
    played: set[str] = set()
    for block in read_blocks(PAGE):
        if block.heading in BEFORE.keys() - played:
            BEFORE[block.heading](story)
        played.add(block.heading)
        if block.language == "console":
            story.play(block)
        elif "[tool.cruft]" in block.code:
            exclude(story, block.code)
        else:
            check_source(story, block.code)
    assert BEFORE.keys() <= played
    # Linked to the version that it was made from, it takes in everything since.
    assert "has been updated" in story.type("cruft update --skip-apply-ask")
    assert "seed: 1\n" in (story.project / TRAIN).read_text("utf-8")


def check_source(story: Story, setting: str) -> None:
    """The setting names what this repository builds, and only that is gone from the project."""
    (name,) = tomllib.loads(setting)["tool"]["uv"]["sources"]
    assert name == tomllib.loads((story.template / "pyproject.toml").read_text())["project"]["name"]
    assert not (story.project / "workbench").exists()
    # The commits before: the patch reverted, restored, and the library removed.
    restored = story.type(f"git show HEAD~1:{ERRORS}")
    reverted = story.type(f"git show HEAD~2:{ERRORS}")
    assert "# mine" in restored
    assert "# mine" not in reverted
    assert "# New." in reverted
    assert (story.project / "configs" / "hydra" / "sweeper").is_dir()


def exclude(story: Story, setting: str) -> None:
    """The files that the setting names stay as they are in an update."""
    story.type('git commit -am "Update from the template"')
    file = story.project / "pyproject.toml"
    file.write_text(f"{file.read_text('utf-8')}\n{setting}", "utf-8")
    commit_all(story.project)
    story.change_template("README.md", "## Tune", "## Tuning")
    story.change_template("configs/experiment/digits.yaml", "max_epochs: 20", "max_epochs: 21")
    story.change_template("configs/optimizer/adam.yaml", "name: Adam", "name: AdamW")
    assert "has been updated" in story.type("cruft update --skip-apply-ask")
    changed = {line.split()[-1] for line in story.type("git status --short").splitlines()}
    assert changed == {".cruft.json", "configs/optimizer/adam.yaml"}
    story.type('git commit -am "Update from the template"')
