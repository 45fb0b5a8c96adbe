"""The functions that run in the process of a trial: train, check, and test a configuration."""

import logging
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra.utils import get_method
from omegaconf import DictConfig, read_write

from ..errors import UserError
from ..runs.config import task_options
from ..shell import resume_options
from . import application, tracking, trial_channel
from .plan import Base, Repeat
from .space import options_of
from .trial_channel import max_epochs_of, unit_of
from .types import State, TrialOutcome, Unit, Value, Verdict
from .workers import run_job

log = logging.getLogger(__name__)

# State of a trial that ended after its last verdict.
STATES = {
    Verdict.CONTINUE: State.FINISHED,
    Verdict.PRUNE: State.PRUNED,
    Verdict.STOP: State.STOPPED,
    Verdict.PAUSE: State.PAUSED,
}


def run_trial(base: Base, params: Mapping[str, Value], folders: list[Path]) -> TrialOutcome:
    """Train a configuration with every seed and fold.

    Args:
        base: what all trials have in common.
        params: the configuration.
        folders: the folder of the trial, and those of earlier attempts to resume.
    """
    assert trial_channel.current is not None
    results: list[dict[str, float]] = []
    repeats = base.repeats()
    run = application.run if base.is_application else _run
    for repeat in repeats:
        places = [folder / repeat.folder for folder in folders]
        name = "/".join(filter(None, (folders[0].name, repeat.folder)))
        result, length = run(base, params, repeat, places, name)
        if isinstance(result, TrialOutcome):
            return result
        results.append(result)
        if trial_channel.current.verdict is not Verdict.CONTINUE:
            break
        trial_channel.current.end_run(result.get(base.objective.metric, math.nan), length)
    metrics = _mean(results)
    # With fewer trainings than other configurations have, the deviation would be too small.
    if len(results) == len(repeats) > 1 and base.objective.metric in metrics:
        spread = statistics.pstdev(row[base.objective.metric] for row in results)
        metrics[f"{base.objective.metric}/std"] = spread
    return TrialOutcome(STATES[trial_channel.current.verdict], metrics)


def _run(
    base: Base, params: Mapping[str, Value], repeat: Repeat, places: list[Path], name: str
) -> tuple[dict[str, float] | TrialOutcome, int | None]:
    """Train a configuration with one seed and fold.

    Args:
        base: what all trials have in common.
        params: the configuration.
        repeat: the seed and the fold.
        places: the folder of this training, and those of earlier attempts to resume.
        name: the name of the training within the sweep.

    Returns:
        The metrics, and the number of reports of a complete training if it is known.
    """
    config = base.compose(params, places[0])
    arguments = task_options(config.hydra)
    if base.seeds > 1:
        config.seed = int(config.seed or 0) + repeat.seed
    if repeat.fold is not None:
        config.data.fold = repeat.fold
        arguments.append(f"data.fold={repeat.fold}")
    config.ckpt_path = _checkpoint(places[1:])
    if config.ckpt_path is not None:
        config.weights_from = None
        arguments += resume_options(config.ckpt_path)
    tracking.mark_runs(config, base.study, base.parent_run, name)
    sys.argv = [base.script, *arguments, f"seed={config.seed}"]
    result = run_job(config, partial(_train, function=base.function))
    tracking.close_runs(config, failed=isinstance(result, TrialOutcome))
    is_counted = unit_of(config.trainer) is Unit.EPOCH
    return result, max_epochs_of(config.trainer) if is_counted else None


def check_trial(
    base: Base,
    params: Mapping[str, Value],
    folder: Path,
    optional: frozenset[str],
    monitored: Sequence[str],
) -> Any:
    """Build everything that a trial needs, including the data.

    Args:
        base: what all trials have in common.
        params: the configuration.
        folder: for output.
        optional: parameters that may have no effect.
        monitored: the metrics that the sweep needs.

    Returns:
        The checked run and the number of GPUs; a `TrialOutcome` in case of an error.
    """
    import torch

    from ..dry_run import check

    given = [key for key in params if key not in optional]
    config = _given(base, params, folder, optional)
    result = run_job(config, partial(check, varied=given, monitored=monitored))
    return result if isinstance(result, TrialOutcome) else (result, torch.cuda.device_count())


def find_useless(
    base: Base, params: Mapping[str, Value], folder: Path, optional: frozenset[str]
) -> Any:
    """The options without effect in a configuration.

    A sentence if one of them is not `optional`; a `TrialOutcome` in case of another error.
    """
    from ..dry_run import useless_options

    return run_job(_given(base, params, folder, optional), useless_options)


def _given(
    base: Base, params: Mapping[str, Value], folder: Path, optional: frozenset[str]
) -> DictConfig:
    """The config of a trial as if the command had not set the `optional` parameters."""
    config = base.compose(params, folder)
    given = {key: value for key, value in params.items() if key not in optional}
    with read_write(config):
        config.hydra.overrides.task = [*base.fixed, *options_of(given)]
    return config


def test_trial(base: Base, params: Mapping[str, Value], folder: Path) -> Any:
    """Test the best checkpoint of a finished trial.

    Returns:
        The metrics, averaged over seeds and folds; a `TrialOutcome` in case of an error.
    """
    results = []
    for repeat in base.repeats():
        place = folder / repeat.folder
        path = place / "checkpoints" / "best.ckpt"
        config = base.compose(params, place)
        if repeat.fold is not None:
            config.data.fold = repeat.fold
        result = run_job(config, partial(_test, path=path))
        if isinstance(result, TrialOutcome):
            return result
        results.append(result)
    return _mean(results)


def _test(cfg: DictConfig, path: Path) -> dict[str, float]:
    from ..dry_run import test_checkpoint

    return test_checkpoint(cfg, path)


def _train(cfg: DictConfig, function: str) -> dict[str, float]:
    get_method(function)(cfg)
    return metrics_of(Path(cfg.paths.output_dir))


def metrics_of(folder: Path) -> dict[str, float]:
    """The metrics of the best epoch of a trial, with `parameters` and `seconds`."""
    from ..runs.manifest import read_manifest

    manifest = read_manifest(folder)
    metrics = dict(manifest.get("metrics", {}).get("best", {}))
    # A model may log metrics of these names.
    metrics.setdefault("parameters", manifest.get("parameters", math.nan))
    metrics.setdefault("seconds", manifest.get("timings", {}).get("fit", math.nan))
    return metrics


def _checkpoint(folders: list[Path]) -> str | None:
    """The newest checkpoint of earlier attempts."""
    from ..runs.checkpoints import read_checkpoint

    for folder in folders:
        path = folder / "checkpoints" / "last.ckpt"
        with suppress(UserError):
            read_checkpoint(path)
            return str(path)
    return None


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    names = set.intersection(*(set(row) for row in rows))
    return {name: statistics.fmean(row[name] for row in rows) for name in sorted(names)}
