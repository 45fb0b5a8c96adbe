"""Calls a function as Hydra runs a job, with fewer copies of Hydra's own config.

Hydra 1.3 copies it four times, which takes longer than everything else that a trial does before its
function is called.
"""

import pickle  # nosec B403
from collections.abc import Iterable
from contextlib import chdir, nullcontext
from pathlib import Path
from typing import Any

import hydra
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import (
    JobReturn,
    JobRuntime,
    JobStatus,
    _flush_loggers,
    _save_config,
    configure_log,
    env_override,
    run_job,
)
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write


def call_as_job(function: TaskFunction, config: DictConfig, loader: ConfigLoader) -> Any:
    """What the function returns; output goes to `hydra.runtime.output_dir`."""
    callbacks = Callbacks(config)
    if hydra.__version__.startswith("1.3."):
        return _call(function, config, callbacks)
    # Later versions also check what a config may call.
    context = HydraContext(loader, callbacks)
    job = run_job(function, config, "hydra.sweep.dir", "hydra.sweep.subdir", context)
    return job.return_value


def _call(function: TaskFunction, config: DictConfig, callbacks: Callbacks) -> Any:
    """What `run_job` of Hydra 1.3 does."""
    OmegaConf.set_readonly(config.hydra, True)
    # The method `set_config` would copy the config first.
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    folder = Path(config.hydra.runtime.output_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    # Half as long as `copy.deepcopy`.
    pickled = pickle.dumps(config)
    cfg = _without(pickled, ["hydra"])
    hydra_cfg = _without(pickled, [str(key) for key in cfg])
    overrides = list(config.hydra.overrides.task)
    job = JobReturn(overrides, cfg, hydra_cfg, task_name=JobRuntime.instance().get("name"))
    changes = config.hydra.job.chdir
    if changes is None:
        changes = not version.base_at_least("1.2")
    with chdir(folder) if changes else nullcontext():
        job.working_dir = str(Path.cwd())
        configure_log(config.hydra.job_logging, config.hydra.verbose)
        if config.hydra.output_subdir is not None:
            place = folder / config.hydra.output_subdir
            _save_config(cfg, "config.yaml", place)
            _save_config(hydra_cfg, "hydra.yaml", place)
            _save_config(config.hydra.overrides.task, "overrides.yaml", place)
        with env_override(config.hydra.job.env_set):
            callbacks.on_job_start(config=config, task_function=function)
            try:
                job.return_value, job.status = function(cfg), JobStatus.COMPLETED
            except Exception as error:
                job.return_value, job.status = error, JobStatus.FAILED
        _flush_loggers()
        callbacks.on_job_end(config=config, job_return=job)
    return job.return_value


def _without(pickled: bytes, keys: Iterable[str]) -> DictConfig:
    """A copy of a config without these keys."""
    # Pickled by `_call`.
    copy: DictConfig = pickle.loads(pickled)  # nosec B301
    with read_write(copy), open_dict(copy):
        for key in keys:
            del copy[key]
    return copy
