"""Finish the new project: no empty folders, a first commit when asked, and what to run next.

cookiecutter renders this file and runs it inside the new folder. It asks nothing, needs no network
and only the standard library. The answers come as one JSON text in a raw string: they are data,
whatever they hold.
"""

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ANSWERS = r"""{{= cookiecutter | jsonify }}"""

# cookiecutter leaves out a file by an empty name, but not the folder around it.
FOLDERS_OF_CHOICES = (".github/workflows", ".github")

# The library, which an update replaces unless the project has patched it.
LIBRARY = ("workbench", "hydra_plugins")

# These point git at a repository of the caller's, for example while a hook of that repository runs.
FOREIGN_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")


def main() -> None:
    """Tidy, commit, and print the next commands."""
    answers = json.loads(ANSWERS)
    remove_empty_folders()
    if is_scratch_copy(answers):
        warn_of_patches(answers)
        return
    allow_any_letter()
    if answers["git"] == "yes":
        make_repository(answers)
    print_next_commands(answers)


def allow_any_letter() -> None:
    """Print a folder's name even where the terminal's encoding lacks its letters."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def remove_empty_folders() -> None:
    """Remove the folders whose files the answers leave out."""
    for folder in map(Path, FOLDERS_OF_CHOICES):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def is_made_by_cruft(answers: dict[str, str]) -> bool:
    """Tell cruft from cookiecutter: only cruft notes the template's commit among the answers."""
    return "_commit" in answers


def is_scratch_copy(answers: dict[str, str]) -> bool:
    """Tell the copies that `cruft update` and `cruft diff` make in a temporary folder, to compare.

    A repository in them would count as a difference.
    """
    parent = Path.cwd().resolve().parent
    return (
        is_made_by_cruft(answers)
        and parent.parent == Path(tempfile.gettempdir()).resolve()
        and parent.name.startswith(tempfile.gettempprefix())
    )


def warn_of_patches(answers: dict[str, str]) -> None:
    """Name the files of the library that the project has patched, before an update merges them.

    This copy is what the project was made from if both name the same commit; the other copy of an
    update is the template's newest version.
    """
    project = Path(os.environ.get("PWD", ""))
    try:
        state = json.loads((project / ".cruft.json").read_text("utf-8"))
    except (OSError, ValueError):  # run with --project-dir, or from elsewhere
        return
    if state.get("commit") != answers["_commit"]:
        return
    patched = [
        path.as_posix()
        for folder in LIBRARY
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file() and is_changed(path, project / path)
    ]
    if patched:
        print(f"This project has patched the library: {', '.join(patched)}", file=sys.stderr)


def is_changed(original: Path, own: Path) -> bool:
    """Tell whether the project has the file, with another content than the template's."""
    # Git may have changed the line endings.
    return own.is_file() and own.read_bytes().splitlines() != original.read_bytes().splitlines()


def make_repository(answers: dict[str, str]) -> None:
    """Make a git repository with one commit, or say in one line why not."""
    if not shutil.which("git"):
        print("git is not installed, so there is no repository yet.")
    elif run_git("rev-parse", "--is-inside-work-tree").returncode == 0:
        print("This folder is already in a git repository, so nothing was committed.")
    else:
        commit_everything(answers)


def commit_everything(answers: dict[str, str]) -> None:
    """Make the first commit; the user's own hooks and signing keys have no part in it."""
    own_way = ("-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false")
    steps = (
        ("-c", "init.defaultBranch=main", "init", "--quiet"),
        ("-c", "core.safecrlf=false", "add", "--all"),
        (*identify(answers), *own_way, "commit", "--quiet", "--message", "Start from the template"),
    )
    for step in steps:
        done = run_git(*step)
        if done.returncode != 0:
            print(f"git made no first commit: {' '.join(done.stderr.split())}")
            return


def identify(answers: dict[str, str]) -> tuple[str, ...]:
    """Return git options that name the author where git's own settings do not."""
    fallback = {
        "user.name": answers["author_name"],
        "user.email": answers["author_email"] or "nobody@localhost",
    }
    missing = [key for key in fallback if not run_git("config", key).stdout.strip()]
    return tuple(word for key in missing for word in ("-c", f"{key}={fallback[key]}"))


def run_git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git here, whatever repository the caller was in."""
    environment = {key: value for key, value in os.environ.items() if key not in FOREIGN_REPOSITORY}
    return subprocess.run(
        ["git", *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def print_next_commands(answers: dict[str, str]) -> None:
    """Print what to run next, from the folder where the user stands."""
    print("\nThe project is ready. Next:\n")
    print(f"  cd {shlex.quote(find_way())}")
    if is_made_by_cruft(answers) and Path(".git").is_dir():
        print('  git add .cruft.json && git commit -m "Link to the template"')
    print("  uv sync")
    print("  uv run train.py\n")


def find_way() -> str:
    """Return the project's path, short where it lies below the shell's folder."""
    here, start = Path.cwd(), os.environ.get("PWD")
    return str(here.relative_to(start)) if start and here.is_relative_to(start) else str(here)


if __name__ == "__main__":
    main()
