"""A project that its owner has edited takes in a newer template."""

import json
import shutil
from pathlib import Path

import pytest

from ..conftest import run
from .test_creation import commit, git

ANSWERS = {"project_name": 'The "{{ 7 * 7 }}" {% nets %} \\ 😀', "project_slug": "nets"}


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A repository of the template to which a test may commit."""
    copy = tmp_path / "cookiecutter-lightning"
    shutil.copytree(template, copy)
    run("git", "init", "--quiet", "--initial-branch=main", cwd=copy)
    commit_all(copy)
    return copy


@pytest.fixture
def project(repository: Path, tmp_path: Path) -> Path:
    """A project made with cruft, with .cruft.json committed as the hook says."""
    answers = ("--extra-context", json.dumps(ANSWERS))
    done = run("cruft", "create", str(repository), "--no-input", *answers, cwd=tmp_path)
    folder = tmp_path / "nets"
    assert "git add .cruft.json && git commit" in done.stdout
    assert git(folder, "log", "--format=%s") == "Start from the template"
    assert git(folder, "status", "--porcelain") == "?? .cruft.json"
    commit_all(folder)
    return folder


def test_update_keeps_edits_and_brings_changes(repository: Path, project: Path) -> None:
    """Otherwise a project is on its own from its first day."""
    edit(project / "configs" / "train.yaml", "seed: 42", "seed: 7")
    (project / "notes.md").write_text("Mine.\n")
    (project / ".env.example").unlink()
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    edit(folder / "configs" / "train.yaml", "test: true", "test: false")
    edit(folder / ".env.example", "# Copy to .env", "# Please copy to .env")
    (folder / "NEW.md").write_text("New in {{= cookiecutter.__markdown_project_name }}.\n")
    (folder / "runs.py").unlink()
    commit_all(repository)

    assert run("cruft", "check", cwd=project, check=False).returncode == 1
    done = run("cruft", "update", "--skip-apply-ask", cwd=project)

    assert "has been updated" in done.stdout
    assert "uv run train.py" not in done.stdout, "the hook has nothing to say during an update"
    train = (project / "configs" / "train.yaml").read_text()
    assert "seed: 7" in train
    assert "test: false" in train
    assert (project / "notes.md").read_text() == "Mine.\n"
    assert not (project / ".env.example").exists()
    assert (project / "NEW.md").read_text() == 'New in The "{{ 7 \\* 7 }}" {% nets %} \\\\ 😀.\n'
    assert not (project / "runs.py").exists()
    assert run("cruft", "check", cwd=project).returncode == 0
    changed = {line.split()[-1] for line in git(project, "status", "--porcelain").splitlines()}
    assert changed == {"configs/train.yaml", "NEW.md", "runs.py", ".cruft.json"}


def test_update_marks_a_conflict(repository: Path, project: Path) -> None:
    """Where both changed the same line, the owner decides and nothing is lost."""
    edit(project / "configs" / "train.yaml", "seed: 42", "seed: 7")
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    edit(folder / "configs" / "train.yaml", "seed: 42", "seed: 1")
    commit_all(repository)
    run("cruft", "update", "--skip-apply-ask", cwd=project)
    train = (project / "configs" / "train.yaml").read_text()
    assert "<<<<<<< ours\nseed: 7\n=======\nseed: 1\n>>>>>>> theirs\n" in train
    assert "UU configs/train.yaml" in git(project, "status", "--porcelain")


def test_update_can_change_an_answer(project: Path) -> None:
    """Changing one's mind about the logger or the CI must not need a new project."""
    answers = ("--variables-to-update", '{"ci": "gitlab", "logger": "csv"}')
    run("cruft", "update", "--skip-apply-ask", *answers, cwd=project)
    assert (project / ".gitlab-ci.yml").is_file()
    assert not (project / ".github" / "workflows" / "tests.yml").exists()
    assert "logger: csv" in (project / "configs" / "train.yaml").read_text()


def test_unchanged_project_differs_in_nothing(project: Path) -> None:
    """`cruft diff` shows the owner's edits; noise of ours would hide them."""
    assert run("cruft", "diff", "--exit-code", cwd=project).stdout == ""


def test_linked_project_can_be_updated(repository: Path, tmp_path: Path) -> None:
    """People start with cookiecutter and learn of cruft later."""
    run("cookiecutter", str(repository), "--no-input", cwd=tmp_path)
    project = tmp_path / "my-project"
    run("cruft", "link", str(repository), "--no-input", cwd=project)
    commit_all(project)
    (folder,) = repository.glob("{{=*")
    edit(folder / "configs" / "train.yaml", "seed: 42", "seed: 1")
    commit_all(repository)
    run("cruft", "update", "--skip-apply-ask", cwd=project)
    assert "seed: 1" in (project / "configs" / "train.yaml").read_text()


def edit(path: Path, old: str, new: str) -> None:
    """Replace a text that must be there."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def commit_all(repository: Path) -> None:
    """Commit everything."""
    run("git", "add", "--all", cwd=repository)
    commit(repository)
