"""`train.py --help <group>` describes the choices of a config group, and shows one of them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from .errors import UserError, nearest
from .project import project

FLAGS = ("--help", "-h")
WIDTH = 100


def find_group(words: Sequence[str]) -> str | None:
    """The group, or the choice of a group, that a command asks about; None if about neither.

    Raises:
        UserError: it asks about something that does not exist.
    """
    asked = [word for word in words if word not in FLAGS]
    if len(asked) == len(words) or len(asked) != 1 or set(asked[0]) & set("=-"):
        return None
    name = asked[0].strip("/").removesuffix(".yaml")
    if name not in (known := list(_groups())) and not _file(name).is_file():
        group = name.rpartition("/")[0]
        known = [f"{group}/{choice}" for choice in _choices(group)] if group in known else known
        raise UserError(f"There is no config group {name!r}; {nearest(name, known)}")
    return name


def print_group(name: str, script: str) -> None:
    """Print the choices of a group, or the file of one choice.

    Args:
        name: the result of `find_group`.
        script: the command, such as "train.py".
    """
    if not (project().configs / name).is_dir():
        print(_file(name).read_text("utf-8").rstrip())
        return
    choices = list(_choices(name))
    print(f"{name}=<choice> selects one of configs/{name}/:\n")
    width = max(map(len, choices), default=0)
    for choice in choices:
        text = _describe(_file(f"{name}/{choice}"))
        room = WIDTH - width - 4
        short = text if len(text) <= room else f"{text[: room - 4].rpartition(' ')[0]} ..."
        print(f"  {choice:{width}}  {short}".rstrip())
    for inner in sorted(group for group in _groups() if group.startswith(f"{name}/")):
        print(f"\n{inner}=<choice> is a group of its own: {script} --help {inner}")
    if choices:
        print(f"\n{script} --help {name}/{choices[0]} shows the values of a choice.")


def _groups() -> Iterator[str]:
    """All folders of `configs/` with config files, such as `hydra/sweeper/pruner`."""
    configs = project().configs
    for path in sorted({file.parent for file in configs.rglob("*.yaml")} - {configs}):
        yield path.relative_to(configs).as_posix()


def _choices(group: str) -> Iterator[str]:
    """The names of the files of a group."""
    yield from sorted(path.stem for path in (project().configs / group).glob("*.yaml"))


def _file(name: str) -> Path:
    return project().configs / f"{name}.yaml"


def _describe(path: Path) -> str:
    """The first sentence of the comment at the top of a config file."""
    lines = []
    for line in path.read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# "))
    return re.split(r"(?<=\w\w[.]) ", " ".join(lines))[0]
