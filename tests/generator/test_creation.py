"""The ways to make a project, and its first commit."""

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..conftest import run

COOKIECUTTER = str(Path(sys.executable).with_name("cookiecutter"))
NEXT_COMMANDS = "  cd my-project\n  uv sync\n  uv run train.py\n"
QUESTIONS = 12

# git as on a new machine: no name, no address, no settings.
NEW_MACHINE = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nowhere"}


@pytest.fixture(scope="module")
def repository(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template as a git repository that can be cloned."""
    copy = tmp_path_factory.mktemp("repository") / "cookiecutter-lightning.git"
    shutil.copytree(template, copy)
    run("git", "init", "--quiet", cwd=copy)
    run("git", "add", "--all", cwd=copy)
    commit(copy)
    return copy


def test_without_questions(template: Path, tmp_path: Path) -> None:
    """Scripts and CI have nobody to ask."""
    done = run("cookiecutter", str(template), "--no-input", cwd=tmp_path)
    assert done.stdout.endswith(f"\n\n{NEXT_COMMANDS}\n")
    assert done.stderr == ""
    assert (tmp_path / "my-project" / "train.py").is_file()


def test_with_questions_on_a_terminal(template: Path, tmp_path: Path) -> None:
    """The way most people come: one line of text a question, a number a choice."""
    typed = ["Tiny Nets", "", "", "It's {{ tiny }}", "Ada", "", "2", "", "2", "4", "3", "2"]
    screen = type_on_terminal([COOKIECUTTER, str(template)], typed, tmp_path)
    project = tmp_path / "tiny-nets"
    assert f"[{QUESTIONS}/{QUESTIONS}]" in screen
    assert "cd tiny-nets" in screen
    assert 'description = "It\'s {{ tiny }}"' in (project / "pyproject.toml").read_text()
    assert "Apache License" in (project / "LICENSE").read_text()
    assert "logger: csv" in (project / "configs" / "train.yaml").read_text()
    assert not (project / ".github").exists()
    assert not (project / ".git").exists()


def test_with_questions_without_a_terminal(template: Path, tmp_path: Path) -> None:
    """Answers may come through a pipe."""
    subprocess.run(
        [COOKIECUTTER, str(template)],
        input="Piped\n" + "\n" * (QUESTIONS - 1),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert (tmp_path / "piped" / "train.py").is_file()


def test_from_a_git_address(repository: Path, tmp_path: Path) -> None:
    """The template is used from its repository far more often than from a folder."""
    run("cookiecutter", f"git+file://{repository}", "--no-input", cwd=tmp_path)
    assert (tmp_path / "my-project" / "train.py").is_file()


def test_again_over_an_existing_project(template: Path, tmp_path: Path) -> None:
    """`-f` renews the template's files; the owner's commits and own files must stay."""
    options = (str(template), "--no-input")
    run("cookiecutter", *options, cwd=tmp_path)
    project = tmp_path / "my-project"
    (project / "mine.txt").write_text("mine")
    (project / "train.py").write_text("broken")
    first = head(project)
    refused = run("cookiecutter", *options, cwd=tmp_path, check=False)
    done = run("cookiecutter", *options, "-f", cwd=tmp_path)
    assert "already exists" in refused.stdout + refused.stderr
    assert "is already in a git repository" in done.stdout
    assert "hydra" in (project / "train.py").read_text()
    assert (project / "mine.txt").read_text() == "mine"
    assert head(project) == first


@pytest.mark.parametrize("choice", ["license=GPL-3.0", "logger=comet", "git=maybe", "ci=None"])
def test_unknown_choice_is_refused(template: Path, tmp_path: Path, choice: str) -> None:
    """A misspelt choice that fell back to the default would go unnoticed."""
    done = run("cookiecutter", str(template), "--no-input", choice, cwd=tmp_path, check=False)
    assert done.returncode != 0
    assert not any(tmp_path.iterdir())


def test_first_commit_holds_everything(template: Path, tmp_path: Path) -> None:
    """The owner starts from a clean state, on main, under the name that git knows."""
    run("git", "config", "--file", "config", "user.name", "Grace", cwd=tmp_path)
    run("git", "config", "--file", "config", "user.email", "grace@example.org", cwd=tmp_path)
    bake_with_git(template, tmp_path, GIT_CONFIG_GLOBAL=str(tmp_path / "config"))
    project = tmp_path / "my-project"
    assert git(project, "status", "--porcelain") == ""
    assert git(project, "log", "--format=%an <%ae>%n%s") == (
        "Grace <grace@example.org>\nStart from the template"
    )
    assert git(project, "branch", "--show-current") == "main"


@pytest.mark.parametrize("email", ["ada@example.org", ""])
def test_first_commit_on_a_new_machine(template: Path, tmp_path: Path, email: str) -> None:
    """Git refuses to commit for nobody; the answers say who it is."""
    answers = ('author_name=Ada "A\'B" L', f"author_email={email}")
    bake_with_git(template, tmp_path, *answers, **NEW_MACHINE)
    author = git(tmp_path / "my-project", "log", "--format=%an <%ae>")
    assert author == f'Ada "A\'B" L <{email or "nobody@localhost"}>'


def test_first_commit_ignores_hooks_and_signing(template: Path, tmp_path: Path) -> None:
    """A hook that asks for a ticket, or a key that asks for a passphrase, would stop it."""
    hook = tmp_path / "hooks" / "pre-commit"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    copies = tmp_path / "copies" / "hooks"
    shutil.copytree(hook.parent, copies)
    (tmp_path / "config").write_text(
        f"[core]\nhooksPath = {hook.parent}\n[init]\ntemplateDir = {copies.parent}\n"
        "[commit]\ngpgSign = true\n[gpg]\nprogram = false\n"
    )
    config = {"GIT_CONFIG_GLOBAL": str(tmp_path / "config"), "GIT_CONFIG_NOSYSTEM": "1"}
    bake_with_git(template, tmp_path, **config)
    assert git(tmp_path / "my-project", "log", "--format=%s") == "Start from the template"


def test_no_repository_inside_a_repository(template: Path, tmp_path: Path) -> None:
    """In a larger repository the project is one folder of many; its owner commits it."""
    run("git", "init", "--quiet", cwd=tmp_path)
    done = bake_with_git(template, tmp_path)
    assert "is already in a git repository" in done.stdout
    assert not (tmp_path / "my-project" / ".git").exists()


def test_foreign_repository_is_left_alone(template: Path, tmp_path: Path) -> None:
    """Inside a git hook GIT_DIR points elsewhere; the first commit must not land there."""
    (tmp_path / "other").mkdir()
    run("git", "init", "--quiet", cwd=tmp_path / "other")
    bake_with_git(template, tmp_path, GIT_DIR=str(tmp_path / "other" / ".git"), **NEW_MACHINE)
    assert git(tmp_path / "my-project", "rev-list", "--count", "HEAD") == "1"
    assert git(tmp_path / "other", "rev-list", "--all", "--count") == "0"


def test_without_git(template: Path, tmp_path: Path) -> None:
    """A machine without git still gets its project."""
    programs = tmp_path / "bin"
    programs.mkdir()
    done = run(COOKIECUTTER, str(template), "--no-input", cwd=tmp_path, PATH=str(programs))
    assert "git is not installed" in done.stdout
    assert "uv run train.py" in done.stdout
    assert (tmp_path / "my-project" / "train.py").is_file()


def type_on_terminal(command: list[str], lines: list[str], cwd: Path) -> str:
    """Run a command on a terminal of its own, type lines, and return what the screen shows."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"PWD": str(cwd)}
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, "".join(f"{line}\n" for line in lines).encode())
        screen = bytearray()
        try:
            while chunk := os.read(ours, 4096):
                screen += chunk
        except OSError:  # how a terminal says that nobody holds its other end any more
            pass
        assert process.wait(60) == 0, screen.decode()
    os.close(ours)
    return screen.decode().replace("\r\n", "\n")


def bake_with_git(
    template: Path, folder: Path, *answers: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Bake with a first commit, git seeing the given variables."""
    command = ("cookiecutter", str(template), "--no-input", *answers)
    return run(*command, cwd=folder, check=True, **variables)


def commit(repository: Path) -> None:
    """Commit what is staged, whoever and wherever we are."""
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgSign=false")
    run("git", *who, "commit", "--quiet", "--message", "Change", cwd=repository)


def head(repository: Path) -> str:
    """Return the present commit."""
    return git(repository, "rev-parse", "HEAD")


def git(repository: Path, *arguments: str) -> str:
    """Return what git says."""
    return run("git", *arguments, cwd=repository).stdout.strip()
