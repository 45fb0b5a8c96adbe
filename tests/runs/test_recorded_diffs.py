"""`run.json` knows the code of a run, and `runs.py diff` never denies a change of it."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Bake, BakedProject
from ..support.modules import project_module
from ..support.sweeps import sweep

Row = tuple[str, ...]
# A line that is longer than all that run.json stores of a diff.
LONG = "9" * 250_000


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    allowed = ("-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main")
    command = ["git", *identity, *allowed, *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@dataclass
class Code:
    """A folder with code, and what a run there would write into `run.json`."""

    folder: Path
    describe: Callable[[Path], dict[str, Any]]
    compare: Callable[[Path, Path], list[Row]]

    def write(self, name: str, content: str) -> None:
        """Write a file."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(content, "utf-8")

    def commit(self) -> None:
        """Commit everything."""
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--message", "x")

    def run(self, name: str) -> Path:
        """A finished run with the code as it is now."""
        run = self.folder.parent / name
        run.mkdir()
        content = {"status": "finished", "git": self.describe(self.folder)}
        (run / "run.json").write_text(json.dumps(content), "utf-8")
        return run

    def differing(self, change: Callable[[], object]) -> set[str]:
        """What a change makes different between a run before and one after it."""
        before = self.run("before")
        change()
        rows = self.compare(before, self.run("after"))
        assert {row[0] for row in rows} <= {"code"}
        return {row[1] for row in rows}


@pytest.fixture
def code(demo: BakedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Code:
    """A repository with a model and a notebook, committed."""
    monkeypatch.syspath_prepend(demo.root)
    (tmp_path / "code").mkdir()
    code = Code(
        tmp_path / "code",
        project_module("demo", "runs.code_state").describe_code,
        project_module("demo", "runs.difference").compare_runs,
    )
    git(code.folder, "init", "--quiet")
    code.write("net/model.py", "width = 1\n")
    code.write("a.ipynb", "{}\n")
    code.commit()
    return code


def test_notebook_does_not_hide_a_changed_model(code: Code) -> None:
    """The notebook comes first in git's diff and is longer than what is stored."""
    code.write("a.ipynb", LONG)
    code.write("net/model.py", "width = 2\n")
    whole = git(code.folder, "diff", "HEAD", "--full-index", "--no-color")
    state = code.describe(code.folder)
    assert "-width = 1\n+width = 2\n" in state["diff"]
    assert len(state["diff"]) < 1000
    assert state["diff_sha256"] == hashlib.sha256(whole.encode()).hexdigest()
    # The mark of the cut, for people and for programs.
    assert state["diff"].endswith("# Left out for their length: a.ipynb\n")
    assert state["diff_left_out"].keys() == {"a.ipynb"}
    assert state["diff_left_out"]["a.ipynb"] > 250_000
    assert code.differing(lambda: code.write("net/model.py", "width = 3\n")) == {
        "net/model.py (uncommitted)"
    }


def test_change_beyond_what_is_stored_is_told(
    code: Code, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two diffs are alike in all that run.json has room for."""
    code.write("a.ipynb", LONG)
    changed = code.differing(lambda: code.write("a.ipynb", LONG[:-1] + "8"))
    assert changed == {"a.ipynb (uncommitted)"}
    difference = project_module("demo", "runs.difference")
    difference.print_difference(code.folder.parent / "before", code.folder.parent / "after")
    printed = capsys.readouterr().out
    assert "nothing but time" not in printed
    assert "after: the diff was too long to store for a.ipynb." in printed


def make_binary(code: Code) -> None:
    (code.folder / "table.bin").write_bytes(bytes(range(256)))


CHANGES: dict[str, tuple[Callable[[Code], object], set[str]]] = {
    "binary": (
        lambda c: (c.folder / "table.bin").write_bytes(bytes(255)),
        {"table.bin (uncommitted)"},
    ),
    "deleted": (
        lambda c: (c.folder / "net" / "model.py").unlink(),
        {"net/model.py (uncommitted)"},
    ),
    "renamed": (
        lambda c: git(c.folder, "mv", "net/model.py", "net/größe x.py"),
        {"net/größe x.py (uncommitted)"},
    ),
    "executable": (
        lambda c: (c.folder / "net" / "model.py").chmod(0o755),
        {"net/model.py (uncommitted)"},
    ),
    "untracked": (lambda c: c.write("new.json", "1"), {"new.json (not in git)"}),
    "untracked folder": (lambda c: c.write("b/c/d.py", "1"), {"b/c/d.py (not in git)"}),
    "submodule": (
        lambda c: c.write("lib/layer.py", "depth = 2\n"),
        {"lib (uncommitted)", "lib/layer.py (uncommitted)"},
    ),
    "ignored": (lambda c: c.write("out.log", "2"), set()),
    "nothing": (lambda c: None, set()),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_change_is_told(code: Code, tmp_path: Path, change: str) -> None:
    """A change that leaves no line of text in a diff changes results all the same."""
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "--quiet")
    (library / "layer.py").write_text("depth = 1\n")
    git(library, "add", ".")
    git(library, "commit", "--quiet", "--message", "x")
    git(code.folder, "submodule", "--quiet", "add", str(library), "lib")
    make_binary(code)
    code.write(".gitignore", "*.log\n")
    code.commit()
    # What people set to read diffs themselves.
    for key, value in (("color.ui", "always"), ("diff.noprefix", "true"), ("diff.renames", "no")):
        git(code.folder, "config", key, value)
    make, expected = CHANGES[change]
    assert code.differing(lambda: make(code)) == expected


def test_last_of_many_untracked_files_is_told(code: Code, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that ends somewhere without a word hides what comes after."""
    monkeypatch.setattr(project_module("demo", "runs.code_state"), "MOST_FILES", 5)
    for number in range(9):
        code.write(f"part{number}.py", "1")
    state = code.describe(code.folder)
    assert (len(state["untracked"]), state["untracked_left_out"]) == (5, 4)
    assert code.differing(lambda: code.write("part8.py", "2")) == {"all files that are not in git"}


def test_code_before_the_first_commit_is_told(code: Code, tmp_path: Path) -> None:
    """A new project has no commit, and its first runs are compared as well."""
    code.folder = tmp_path / "new"
    code.write("model.py", "width = 1\n")
    code.write("staged.py", "1\n")
    git(code.folder, "init", "--quiet")
    git(code.folder, "add", "staged.py")

    def change() -> None:
        code.write("model.py", "width = 2\n")
        code.write("staged.py", "2\n")

    assert code.differing(change) == {"model.py (not in git)", "staged.py (uncommitted)"}


@pytest.mark.parametrize("reason", ["no repository", "no git"])
def test_code_without_git_is_told(
    code: Code, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    """In a container or a copy of the folder all code would count as the same."""
    if reason == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        (code.folder / ".git").rename(tmp_path / "elsewhere")
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    code.write("logs/run/config.yaml", "1")
    code.write(".venv/lib/x.py", "1")

    def change() -> None:
        code.write("net/model.py", "width = 2\n")
        code.write("logs/run/config.yaml", "2")
        code.write(".venv/lib/x.py", "2")

    assert code.differing(change) == {"net/model.py (not in git)"}


def test_trials_record_the_code_that_they_run(bake: Bake, tmp_path: Path) -> None:
    """Who edits the model during a sweep would find the new code in trials of the old one."""
    project = bake(project_name="Edited")
    before, training = "width = 1\n", project.root / "edited" / "training.py"
    (training.parent / "model.py").write_text(before, "utf-8")
    edit = '__import__("pathlib").Path(__file__).with_name("model.py").write_text("width = 2")'
    start = "    run = TrainingRun(cfg)\n"
    code = training.read_text("utf-8")
    training.write_text(code.replace(start, f"    {edit}\n{start}"), "utf-8")
    swept = sweep(project, tmp_path / "study", "optimizer.lr=0.1,0.01")
    assert (training.parent / "model.py").read_text("utf-8") == "width = 2"
    for row in swept.rows:
        run = json.loads((swept.folder / row["folder"] / "run.json").read_text("utf-8"))
        recorded = run["git"]["untracked"]["edited/model.py"]
        assert recorded == hashlib.sha256(before.encode()).hexdigest()
