"""The differences between two runs, from their `run.json`."""

import difflib
import sys
from pathlib import Path
from typing import Any

from ..errors import UserError
from .config import flatten
from .manifest import MANIFEST, read_manifest

# Kind of difference, name of the value, and the value in each of the runs.
Row = tuple[str, str, str, str]

# Two runs that agree in all of these should have had the same results.
CAUSES = ("config", "code", "packages", "machine", "data")
ABSENT = "-"


def find_run(name: str, log_dir: Path) -> Path:
    """The folder of a run.

    Args:
        name: a path, the name in the table of runs, or the end of one.
        log_dir: the folder of all runs.

    Raises:
        UserError: there is no such run, or its manifest cannot be read.
    """
    ends = [path.parent for path in log_dir.glob(f"**/{name.strip('/')}/{MANIFEST}")]
    meant = ends if len(ends) == 1 else []
    for folder in (Path(name).expanduser(), log_dir / name, *meant):
        if (folder / MANIFEST).is_file():
            if not read_manifest(folder):
                raise UserError(f"{folder / MANIFEST} cannot be read: it is damaged.")
            return folder
    runs = [path.parent.relative_to(log_dir).as_posix() for path in log_dir.glob(f"**/{MANIFEST}")]
    close = difflib.get_close_matches(name, runs, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "python runs.py lists them."
    raise UserError(f"There is no run {name!r}; {hint}")


def compare_runs(one: Path, other: Path) -> list[Row]:
    """Everything that differs except times and folders, causes before results."""
    facts = [_facts(read_manifest(folder)) for folder in (one, other)]
    rows = []
    for key in dict.fromkeys([*facts[0], *facts[1]]):
        values = [fact.get(key, ABSENT) for fact in facts]
        if values[0] != values[1]:
            rows.append((*key, _text(values[0]), _text(values[1])))
    kinds = [*CAUSES, "status", "metrics"]
    return sorted(rows, key=lambda row: kinds.index(row[0]))


def print_difference(one: Path, other: Path) -> None:
    """Print a table of the differences, or one sentence if there are none."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = compare_runs(one, other)
    if not rows:
        print("The two runs differ in nothing but time.")
        return
    table = Table("", "what", one.name, other.name)
    for before, row in zip([None, *rows], rows, strict=False):
        kind = "" if before is not None and before[0] == row[0] else row[0]
        table.add_row(kind, *(Text(text, overflow="fold") for text in row[1:]))
    # A file has no width to fit into.
    width = None if sys.stdout.isatty() else 250
    # A run may be called [red] or :cat:.
    Console(width=width, markup=False, emoji=False).print(table)
    for run in (one, other):
        if left_out := (read_manifest(run).get("git") or {}).get("diff_left_out"):
            print(f"{run.name}: the diff was too long to store for {', '.join(left_out)}.")
    if all(kind not in CAUSES for kind, *_ in rows):
        print(
            "Config, code, packages, machine and data are the same: only chance is left, such as "
            "seed=null, a run that ended early, or a GPU without trainer.deterministic=true."
        )


def _facts(manifest: dict[str, Any]) -> dict[tuple[str, str], Any]:
    """Everything in a manifest in which two runs may differ, by kind and name."""
    code = _code(manifest.get("git") or {}) | {
        "model parameters": manifest.get("parameters", ABSENT)
    }
    machine = {"python": manifest.get("python", ABSENT), **manifest.get("hardware", {})}
    parts: dict[str, dict[str, Any]] = {
        "config": _without_places(manifest.get("config", {})),
        "code": code,
        "packages": manifest.get("packages", {}),
        "machine": machine,
        "data": flatten(manifest.get("data", {})),
        "status": {"how it ended": manifest.get("status", ABSENT)},
        "metrics": flatten(manifest.get("metrics", {})),
    }
    return {(kind, name): value for kind, part in parts.items() for name, value in part.items()}


def _code(git: dict[str, Any]) -> dict[str, Any]:
    """The commit, and a hash of each file that differs from it."""
    code: dict[str, Any] = {"commit": git.get("commit", ABSENT)[:10]}
    for kind, words in (("changed", "uncommitted"), ("untracked", "not in git")):
        hashes = git.get(kind, {})
        code |= {f"{file} ({words})": _short(value) for file, value in hashes.items()}
        if git.get(f"{kind}_left_out"):
            code[f"all files that are {words}"] = _short(git.get(f"{kind}_sha256", ABSENT))
    return code


def _short(value: str) -> str:
    """The first characters of a hash; a size is returned unchanged."""
    return value[:10] if len(value) == 64 else value


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A config's values by their full names, without the folders of run and project."""
    paths = config.get("paths", {})
    values = flatten(config)
    for name in ("output_dir", "root_dir"):
        folder = paths.get(name)
        values.pop(f"paths.{name}", None)
        if folder:
            values = {
                key: value.replace(folder, f"<{name}>") if isinstance(value, str) else value
                for key, value in values.items()
            }
    return values


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
