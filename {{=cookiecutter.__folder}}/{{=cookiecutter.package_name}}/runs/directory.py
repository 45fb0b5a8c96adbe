"""Where a run writes: one folder per run, never two runs in one.

Imported before anything heavy, because Hydra asks for the folder's name first.
"""

import os
import secrets
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from ..config_headers import check_headers
from ..errors import UserError
from .manifest import MANIFEST, read_manifest

PROJECT_ROOT = Path(__file__).resolve().parents[2]


def register_resolvers() -> None:
    """Make `${project_root:}` and `${run_id:name}` known to the configs, and check their headers.

    Needed once in every process that composes a config.
    """
    check_headers()
    OmegaConf.register_new_resolver("project_root", lambda: str(PROJECT_ROOT), replace=True)
    # Cached: every mention in a config must give the same folder.
    OmegaConf.register_new_resolver("run_id", run_id, replace=True, use_cache=True)


def run_id(name: str) -> str:
    """Folder name of a run: time, name and a random suffix, or the id of a SLURM batch job.

    A requeued batch job comes back under its old id, and so finds its folder and its checkpoint.
    Elsewhere the suffix keeps runs apart that start in the same second.
    """
    if "/" in name:
        raise UserError(f"the name {name!r} becomes a folder and holds no slash")
    job, shell = os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_JOB_NAME")
    if job and shell not in ("bash", "interactive"):
        return f"slurm-{job}_{name}"
    return f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{name}_{secrets.token_hex(4)}"


def check_writable(directory: Path) -> None:
    """Refuse a place where no folder can be made, before anything is made.

    Raises:
        UserError: a file is in the way, or the rights are missing.
    """
    nearest = next(path for path in (directory, *directory.parents) if path.exists())
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        raise UserError(
            f"{directory} cannot be written: choose another folder with paths.log_dir=... or "
            "hydra.sweep.dir=..."
        )


def claim_directory(directory: Path, ckpt_path: str | None) -> None:
    """Make the run's folder, unless another run lives there.

    A run may go on in a folder when its checkpoint lies there, and after a requeue.

    Raises:
        UserError: the folder belongs to another run, or to the project.
    """
    if directory.resolve() == PROJECT_ROOT:
        raise UserError("hydra.run.dir is a folder of the run's own, not that of the project.")
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / MANIFEST).exists():
        return
    resumed = ckpt_path is not None and Path(ckpt_path).resolve().is_relative_to(
        directory.resolve()
    )
    unfinished = read_manifest(directory).get("status") != "finished"
    requeued = "SLURM_JOB_ID" in os.environ and unfinished
    if not (resumed or requeued):
        raise UserError(
            f"{directory} already holds a run: choose another hydra.run.dir, "
            f"or go on with it by ckpt_path={directory / 'checkpoints' / 'last.ckpt'}."
        )
