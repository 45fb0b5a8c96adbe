"""The SLURM job of a run: its number, this process in it, and how often it was requeued."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from .manifest import read_manifest

# The job names of `salloc` and `srun --pty bash`: a shell, whose commands are never requeued.
SHELLS = ("bash", "interactive")


def job_id() -> str | None:
    """The batch job as `squeue` shows it, `777` or `777_3` in an array; None outside of one."""
    job = os.environ.get("SLURM_JOB_ID")
    if not job or os.environ.get("SLURM_JOB_NAME") in SHELLS:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else job


def restart_count() -> int:
    """The number of times the job was requeued."""
    return int(os.environ.get("SLURM_RESTART_COUNT") or 0)


def process() -> int:
    """The number of this process among those of its training."""
    # torchrun sets the first one; below it SLURM counts the nodes.
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def use_own_port() -> None:
    """Give each step of a job its own port, on which the processes of a run find each other.

    Lightning derives the port from the job alone: two runs in one job would be mixed up.
    """
    job, step = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURM_STEP_ID", "")
    if job.isdigit() and step.isdigit():
        port = 15000 + int(job) % 10000 + int(step) % 5 * 10000
        os.environ.setdefault("MASTER_PORT", str(port))


def config_hash(cfg: DictConfig) -> str:
    """SHA-256 of a command's config without `hydra`, references unresolved."""
    content = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(content, dict)
    content.pop("hydra", None)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def describe_job(cfg: DictConfig) -> dict[str, Any]:
    """The entries of `run.json` about the job; empty outside of one."""
    job = job_id()
    if job is None:
        return {}
    return {"slurm": {"job": job, "restarts": restart_count(), "config": config_hash(cfg)}}


def is_requeued(manifest: dict[str, Any], cfg: DictConfig) -> bool:
    """Whether a run is of the same command in this job, before the job was requeued."""
    before = manifest.get("slurm", {})
    return (
        restart_count() > 0
        and job_id() is not None
        and before.get("job") == job_id()
        and before.get("config") == config_hash(cfg)
    )


def finished_before_requeue(directory: Path, cfg: DictConfig) -> dict[str, Any] | None:
    """The manifest of this run if it finished before the job was requeued."""
    manifest = read_manifest(directory)
    is_done = manifest.get("status") == "finished" and is_requeued(manifest, cfg)
    return manifest if is_done else None
