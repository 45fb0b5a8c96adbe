"""What happens in a trial's process: the config is composed, the model trained, the best kept."""

import logging
import math
import pickle  # nosec B403
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write

from ..errors import UserError
from ..hydra_errors import explain
from ..redact import redact
from ..runs.directory import register_resolvers
from . import loggers, trial_channel
from .space import options_of
from .trial_channel import is_over, max_epochs_of, unit_of
from .types import Objective, State, TrialOutcome, Unit, Value, Verdict

log = logging.getLogger(__name__)

# In its log, before the traceback.
BROKE_OFF = "the trial broke off"
# What a trial is that ended after the last answer.
STATES = {
    Verdict.CONTINUE: State.FINISHED,
    Verdict.PRUNE: State.PRUNED,
    Verdict.PAUSE: State.STOPPED,
}


@dataclass(frozen=True)
class Base:
    """What all trials of a sweep have in common.

    Attributes:
        config_loader: composes configs, from the folders that the command named.
        master: the config of the sweep itself.
        fixed: the command's options that do not vary, and those of every trial.
        groups: which parameters choose a config file.
        composed: the config with only these, pickled.
        script: the script of the command, which DDP starts again.
        objective: what is reported after every epoch or validation.
        seeds: how often a point is trained, with one seed after the other.
        function: the function that trains, by its name, such as `my_project.training.train`.
        folds: how many folds each of these trainings has; None without cross-validation.
        study: the sweep's name.
        parent_run: the sweep's run in MLflow.
    """

    config_loader: ConfigLoader
    master: DictConfig
    fixed: list[str]
    groups: frozenset[str]
    composed: bytes
    script: str
    objective: Objective
    seeds: int
    function: str
    folds: int | None = None
    study: str = ""
    parent_run: str | None = None

    def compose(self, params: Mapping[str, Value], folder: Path) -> DictConfig:
        """The config of a trial, which runs in `folder`."""
        options = [*self.fixed, *options_of(params)]
        if self.groups & params.keys():
            config = self.config_loader.load_sweep_config(self.master, options)
        else:
            # Ten times as fast, and the same: values come after all files in any case.
            # Pickled by the sweep's own process.
            config = pickle.loads(self.composed)  # nosec B301
            for key, value in params.items():
                if isinstance(value, str):
                    value = parsed(f"{key}={value}")
                with flag_override(config, "struct", not key.startswith("+")):
                    OmegaConf.update(config, key.lstrip("+"), value, merge=True)
        with read_write(config), open_dict(config):
            config.hydra.run.dir = config.hydra.runtime.output_dir = str(folder)
            # The trial's file takes all that is printed, and the console is the sweep's.
            config.hydra.job_logging.root.handlers = ["file"]
            config.hydra.overrides.task = options
            if self.folds is not None:
                # The others are trained in `run_trial`.
                config.data.fold = 0
        return config

    def repeats(self) -> list["Repeat"]:
        """The trainings of a point."""
        seeds = [f"seed_{seed}" for seed in range(self.seeds)] if self.seeds > 1 else [""]
        folds = [f"fold_{fold}" for fold in range(self.folds)] if self.folds else [""]
        return [
            Repeat(seed, fold if self.folds else None, "/".join(filter(None, (first, second))))
            for seed, first in enumerate(seeds)
            for fold, second in enumerate(folds)
        ]


@dataclass(frozen=True)
class Repeat:
    """One of the trainings of a point, whose results are averaged.

    Attributes:
        seed: what is added to the config's seed.
        fold: the fold that is held out; None without cross-validation.
        folder: where it writes, below the trial's folder; empty if the point is trained once.
    """

    seed: int
    fold: int | None
    folder: str


def run_trial(base: Base, params: Mapping[str, Value], folders: list[Path]) -> TrialOutcome:
    """Train one point, with every seed and fold, and say how it ended.

    Args:
        base: what all trials have in common.
        params: the point.
        folders: the trial's folder, and those of earlier tries to go on from.
    """
    assert trial_channel.current is not None
    results: list[dict[str, float]] = []
    repeats = base.repeats()
    for repeat in repeats:
        places = [folder / repeat.folder for folder in folders]
        config = base.compose(params, places[0])
        arguments = list(config.hydra.overrides.task)
        if base.seeds > 1:
            config.seed = int(config.seed or 0) + repeat.seed
        if repeat.fold is not None:
            config.data.fold = repeat.fold
            arguments.append(f"data.fold={repeat.fold}")
        config.ckpt_path = _checkpoint(places[1:], config.trainer)
        if config.ckpt_path is not None:
            config.weights_from = None
        name = "/".join(filter(None, (folders[0].name, repeat.folder)))
        loggers.mark_runs(config, base.study, base.parent_run, name)
        sys.argv = [base.script, *arguments, f"seed={config.seed}"]
        result = run_job(config, partial(_train, function=base.function))
        loggers.close_runs(failed=isinstance(result, TrialOutcome))
        if isinstance(result, TrialOutcome):
            return result
        results.append(result)
        if trial_channel.current.verdict is not Verdict.CONTINUE:
            break
        length = max_epochs_of(config.trainer) if unit_of(config.trainer) is Unit.EPOCH else None
        trial_channel.current.end_run(result.get(base.objective.metric, math.nan), length)
    metrics = _mean(results)
    # A spread of fewer trainings than the other points have would look better than it is.
    if len(results) == len(repeats) > 1 and base.objective.metric in metrics:
        spread = statistics.pstdev(row[base.objective.metric] for row in results)
        metrics[f"{base.objective.metric}/std"] = spread
    return TrialOutcome(STATES[trial_channel.current.verdict], metrics)


def check_trial(
    base: Base,
    params: Mapping[str, Value],
    folder: Path,
    optional: frozenset[str],
    monitored: Sequence[str],
) -> Any:
    """Build all that a trial needs, data included.

    Args:
        base: what all trials have in common.
        params: the point.
        folder: for what is written.
        optional: parameters that may have no effect.
        monitored: the metrics that the sweep needs.

    Returns:
        What is known of the trial, and the number of GPUs; or an TrialOutcome with the error.
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
    """The options that have no effect at a point; an TrialOutcome with another error.

    Where one of those has none that is not `optional`, it is a sentence.
    """
    from ..dry_run import useless_options

    return run_job(_given(base, params, folder, optional), useless_options)


def _given(
    base: Base, params: Mapping[str, Value], folder: Path, optional: frozenset[str]
) -> DictConfig:
    """The config of a trial as if the command did not give the `optional` parameters."""
    config = base.compose(params, folder)
    given = {key: value for key, value in params.items() if key not in optional}
    with read_write(config):
        config.hydra.overrides.task = [*base.fixed, *options_of(given)]
    return config


def test_trial(base: Base, params: Mapping[str, Value], folder: Path) -> Any:
    """Test the best checkpoint of a finished trial; its metrics, or an TrialOutcome with the error.

    With several seeds or folds it is the mean over them, as for all other metrics.
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
    """The metrics of the best epoch of a trial, and what else was measured; from its manifest."""
    from ..runs.manifest import read_manifest

    manifest = read_manifest(folder)
    metrics = dict(manifest.get("metrics", {}).get("best", {}))
    # A model may log metrics of these names.
    metrics.setdefault("parameters", manifest.get("parameters", math.nan))
    metrics.setdefault("seconds", manifest.get("timings", {}).get("fit", math.nan))
    return metrics


def run_job(config: DictConfig, function: Callable[[DictConfig], Any]) -> Any:
    """Run a function as Hydra runs a job; a failed TrialOutcome if it raises."""
    setup_globals()
    register_resolvers()
    # Its method `set_config` would copy the config first.
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    try:
        # References are looked up once here, and not each time that a value is read.
        task = {
            key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for key, node in config.items()
            if key != "hydra"
        }
        return function(OmegaConf.create(task, flags={"struct": True}))
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> TrialOutcome:
    """An exception as an outcome; a mistake in the config would be one the next time too."""
    sentence = explain(error)
    if sentence is not None:
        log.error("%s", sentence)
        return TrialOutcome(State.FAILED, error=redact(sentence))
    log.exception(BROKE_OFF, exc_info=error)
    first = (str(error).strip().splitlines() or [""])[0]
    return TrialOutcome(State.FAILED, error=redact(f"{type(error).__name__}: {first}"), retry=True)


def _checkpoint(folders: list[Path], trainer: DictConfig) -> str | None:
    """The newest checkpoint of earlier tries from which there is something left to train."""
    from ..runs.checkpoints import read_checkpoint
    from ..runs.resuming import trained_epochs

    for folder in folders:
        path = folder / "checkpoints" / "last.ckpt"
        with suppress(UserError):
            checkpoint = read_checkpoint(path)
            steps = int(checkpoint["global_step"])
            if not is_over(trainer, trained_epochs(checkpoint), steps):
                return str(path)
    return None


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    names = set.intersection(*(set(row) for row in rows))
    return {name: statistics.fmean(row[name] for row in rows) for name in sorted(names)}


def parsed(option: str) -> Any:
    """The value of an option, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(option).value()
