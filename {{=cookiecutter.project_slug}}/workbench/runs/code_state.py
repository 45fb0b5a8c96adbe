"""The code of a run: its commit, uncommitted changes and untracked files."""

import hashlib
import os
import re
import subprocess
from pathlib import Path
from typing import Any

# The most characters of the diff and files per list in run.json; hashes cover the rest.
LONGEST_DIFF = 200_000
MOST_FILES = 1000
# Stored first, and hashed regardless of their size.
SOURCES = {
    *(".py", ".pyi", ".pyx", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".sh", ".sbatch"),
    *(".yaml", ".yml", ".toml", ".cfg", ".ini"),
}
# Other files that are larger are represented by their size: they are data, with a fingerprint.
LARGEST_HASHED = 1_000_000
# The user's settings, such as notebook tools, colors or prefixes, must not change the diff.
DIFF = (
    *("-c", "core.quotePath=false", "diff", "--no-color", "--no-ext-diff", "--no-textconv"),
    *("--find-renames", "--full-index", "--src-prefix=a/", "--dst-prefix=b/"),
    *("--submodule=diff", "--ignore-submodules=none"),
)
NOT_SOURCES = ("data", "logs", "build", "dist", "__pycache__", "node_modules")

Hashes = dict[str, str]

# What `remember_code` has described.
_remembered: dict[Path, dict[str, Any]] = {}


def remember_code(root: Path) -> None:
    """Describe the code now, for this process and those that are forked from it.

    The trials of a sweep run the code that their server has imported, whatever is edited later.
    """
    _remembered[root] = describe_code(root)


def describe_code(root: Path) -> dict[str, Any]:
    """Everything that distinguishes the code of one run from that of another.

    Returns:
        `commit`, absent before the first one and outside a repository; `dirty`; the uncommitted
        changes as `diff`, `diff_sha256` of all of it, `changed` with a hash per file, and
        `diff_left_out` with the number of characters of the files that do not fit into `diff`;
        `untracked` with a hash per file and `untracked_sha256`. Without git, all sources are
        untracked.
    """
    if root in _remembered:
        return _remembered[root]
    commit = _git(root, "rev-parse", "--verify", "--quiet", "HEAD")
    base = commit or _git(root, "hash-object", "-t", "tree", os.devnull)
    diff = _git(root, *DIFF, base.decode().strip(), "--") if base else None
    if diff is None:
        return _describe_files("untracked", hash_files(root, list_sources(root)))
    state: dict[str, Any] = {"commit": commit.decode().strip()} if commit else {}
    return state | describe_diff(diff) | describe_untracked(root)


def describe_diff(diff: bytes) -> dict[str, Any]:
    """The changes in a diff: a hash of all of it, and as much of its text as fits."""
    parts = split_diff(diff)
    text, left_out = "", {}
    for file in sorted(parts, key=lambda file: (not is_source(file), len(parts[file]))):
        part = parts[file].decode("utf-8", "replace")
        if len(text) + len(part) <= LONGEST_DIFF:
            text += part
        else:
            left_out[file] = len(part)
    if left_out:
        text += f"# Left out for their length: {', '.join(left_out)}\n"
    return {
        "dirty": bool(diff),
        "diff": text,
        "diff_sha256": hashlib.sha256(diff).hexdigest(),
        "diff_left_out": left_out,
        **_describe_files("changed", {file: _hash(part) for file, part in parts.items()}),
    }


def split_diff(diff: bytes) -> dict[str, bytes]:
    """The part of each file in a diff; the files of a submodule have their own parts."""
    parts: dict[str, bytes] = {}
    # Every line of a file's content begins with +, - or a space.
    for part in re.split(rb"^(?=diff --git |Submodule )", diff, flags=re.MULTILINE):
        if part:
            file = _file_of(part)
            parts[file] = parts.get(file, b"") + part
    return parts


def describe_untracked(root: Path) -> dict[str, Any]:
    """The files below `root` that git neither tracks nor ignores, which no diff contains."""
    listed = _git(root, "ls-files", "-z", "--others", "--exclude-standard") or b""
    files = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return _describe_files("untracked", hash_files(root, files))


def is_source(file: str) -> bool:
    """Whether a file is code or a config, judged by its name."""
    return Path(file).suffix in SOURCES


def list_sources(root: Path) -> list[str]:
    """Code and configs below `root`, without environments and the output of runs."""
    found = []
    for folder, folders, files in os.walk(root):
        inside = Path(folder)
        folders[:] = [name for name in folders if _may_hold_sources(inside / name, root)]
        found += [str((inside / file).relative_to(root)) for file in files if is_source(file)]
    return sorted(found)


def hash_files(root: Path, files: list[str]) -> Hashes:
    """SHA-256 of each file, sources first; the size of files that are too large."""
    return {file: _hash_file(root / file) for file in sorted(files, key=_sources_first)}


def _describe_files(name: str, hashes: Hashes) -> dict[str, Any]:
    """The first hashes, and one of all."""
    text = "".join(f"{file}\0{value}\n" for file, value in sorted(hashes.items()))
    kept = sorted(hashes, key=_sources_first)[:MOST_FILES]
    described: dict[str, Any] = {
        # Names that are not UTF-8 cannot be written to JSON.
        name: {os.fsencode(file).decode("utf-8", "replace"): hashes[file] for file in kept},
        f"{name}_sha256": _hash(os.fsencode(text)),
    }
    if len(hashes) > len(kept):
        described[f"{name}_left_out"] = len(hashes) - len(kept)
    return described


def _sources_first(file: str) -> tuple[bool, str]:
    return not is_source(file), file


def _may_hold_sources(folder: Path, root: Path) -> bool:
    is_output = folder.parent == root and folder.name in NOT_SOURCES
    is_hidden = folder.name.startswith(".") or folder.name == "__pycache__"
    return not (is_output or is_hidden or (folder / "pyvenv.cfg").exists())


def _file_of(part: bytes) -> str:
    """The file of a part of a diff: its new name, or the old name of a deleted file."""
    header = os.fsdecode(part.partition(b"\n@@")[0])
    if header.startswith("Submodule "):
        return header.split()[1]
    for pattern in (r"^rename to (.+)", r"^\+\+\+ \"?b/(.+?)\"?\t?$", r"^--- \"?a/(.+?)\"?\t?$"):
        if named := re.search(pattern, header, re.MULTILINE):
            return named[1]
    # A binary or empty file: `diff --git a/<name> b/<name>`.
    names = header.partition("\n")[0].removeprefix("diff --git ")
    return names[len(names) // 2 + 1 :].strip('"').removeprefix("b/")


def _hash_file(path: Path) -> str:
    try:
        if path.is_symlink():
            return _hash(os.fsencode(path.readlink()))
        if path.is_dir():
            # A nested repository.
            return (_git(path, "rev-parse", "HEAD") or b"").decode().strip()
        size = path.stat().st_size
        if size > LARGEST_HASHED and not is_source(path.name):
            return f"{size} bytes"
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git(root: Path, *arguments: str) -> bytes | None:
    """The output of git; None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
