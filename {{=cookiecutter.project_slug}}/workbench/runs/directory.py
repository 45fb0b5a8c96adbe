"""The folder of a run, which no other run shares.

Imported before anything heavy, because Hydra asks for the folder first.
"""

import itertools
import os
import secrets
import unicodedata
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..composing import compose_faster
from ..config_headers import check_headers
from ..errors import UserError
from ..project import project
from ..shell import option
from . import slurm
from .manifest import MANIFEST, read_manifest

# Contains an empty file per process that started in the folder; only SLURM jobs need them.
CLAIMS = ".claims"
# File systems allow 255 bytes, which include the time, a suffix and a number.
LONGEST_NAME = 200


def register_resolvers() -> None:
    """Register `${project_root:}`, `${config_hash:}` and `${run_dir:...}`, and prepare Hydra.

    Every process that composes a config needs this once.
    """
    check_headers()
    compose_faster()
    OmegaConf.register_new_resolver("project_root", lambda: str(project().root), replace=True)
    OmegaConf.register_new_resolver("config_hash", _hash_of_command, replace=True)
    # Cached: every reference in a config must resolve to the same folder.
    OmegaConf.register_new_resolver("run_dir", run_directory, replace=True, use_cache=True)


def _hash_of_command(*, _root_: DictConfig) -> str:
    """The hash of the config that contains the reference; OmegaConf passes that config."""
    return slurm.config_hash(_root_)


def run_directory(log_dir: str, task: str, name: object, config_hash: str) -> str:
    """The folder of a new run, or the one that this run had before its SLURM job was requeued.

    Args:
        log_dir: the folder of all tasks.
        task: `train`, `evaluate`, ...
        name: the name of the run.
        config_hash: the hash of the command's config.

    Raises:
        UserError: the name is not valid in a folder's name, or the folder cannot be created.
    """
    check_name(name)
    folder = Path(log_dir) / task / "runs"
    job = slurm.job_id()
    if job is None:
        return str(folder / run_id(str(name)))
    check_writable(folder.absolute())
    return str(claim_in_job(folder / f"slurm-{job}_{name}_{config_hash[:8]}"))


def run_id(name: str) -> str:
    """Time, name and a random suffix, which separates runs that start in the same second."""
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}_{secrets.token_hex(4)}"


def claim_in_job(folder: Path) -> Path:
    """The first of `folder`, `folder_2`, `folder_3`, ... in which this process has not started.

    The mark is an atomically created file: processes that start together get different folders.
    All tasks of a job step count the same starts, so they agree without communicating. A requeued
    job counts from the beginning, so the same command finds its folder again.
    """
    for number in itertools.count(1):
        directory = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        mark = _mark(directory)
        try:
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch(exist_ok=False)
        except FileExistsError:
            continue
        return directory
    raise AssertionError


def release(directory: Path) -> None:
    """Remove the mark of this process, so that a rejected command leaves nothing behind."""
    mark = _mark(directory)
    mark.unlink(missing_ok=True)
    # Fails while other processes have marks.
    with suppress(OSError):
        mark.parent.rmdir()


def _mark(directory: Path) -> Path:
    return directory / CLAIMS / f"restart-{slurm.restart_count()}-process-{slurm.process()}"


def check_name(name: object) -> None:
    """Reject a name that is not valid in a folder's name.

    Raises:
        UserError: it is not text, empty, too long, or has characters that are not allowed.
    """
    if not isinstance(name, str):
        if name is None:
            raise UserError("name is null, but every run needs one: leave it out, or name=my-run.")
        raise UserError(f"name must be text, not {name!r}: write {option('name', str(name))}.")
    wrong = None
    if not name.strip():
        wrong = "is empty"
    elif "/" in name or "\\" in name:
        wrong = "contains a slash"
    elif '"' in name:
        # Lightning puts the folder into double quotes when it starts other processes.
        wrong = "contains a double quote"
    elif any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        wrong = "contains a line break or another control character"
    elif name[0] in ".-" or name != name.strip():
        wrong = "starts with a dot, a dash or a space, or ends with a space"
    elif len(name.encode()) > LONGEST_NAME:
        raise UserError(
            f"name becomes part of a folder's name and has {len(name.encode())} bytes: use at most "
            f"{LONGEST_NAME}."
        )
    if wrong:
        raise UserError(
            f"name becomes part of a folder's name, and {name!r} {wrong}: use letters, digits, "
            "dashes and underscores."
        )


def check_writable(directory: Path) -> None:
    """Reject a folder that cannot be created, before anything is created.

    Raises:
        UserError: a file is in the way, or permissions are missing.
    """
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise UserError(
            f"{directory} cannot be written: choose another folder with paths.log_dir=... or "
            "hydra.sweep.dir=..."
        )


def claim_directory(directory: Path, ckpt_path: str | None, cfg: DictConfig) -> None:
    """Create the run's folder, unless another run owns it.

    A run may continue in the folder that contains its checkpoint, and after a requeue.

    Raises:
        UserError: the folder belongs to another run, or to the project.
    """
    if directory.resolve() == project().root:
        raise UserError("hydra.run.dir must be a folder of its own, not the project folder.")
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / MANIFEST).exists():
        return
    resumed = ckpt_path is not None and Path(ckpt_path).resolve().is_relative_to(
        directory.resolve()
    )
    if not (resumed or slurm.is_requeued(read_manifest(directory), cfg)):
        last = option("ckpt_path", directory / "checkpoints" / "last.ckpt")
        raise UserError(
            f"{directory} already holds a run: choose another hydra.run.dir, or resume that run "
            f"with {last}."
        )
