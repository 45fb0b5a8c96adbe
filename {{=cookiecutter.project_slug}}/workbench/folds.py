"""Cross-validation: `python train.py data.folds=5` trains one run per fold, several at a time.

Each fold is an ordinary run in its own folder, `<run>/fold_0/` and so on, like a run with
`data.fold=0`. The folds run in the worker processes of sweeps, which share the cores or GPUs. The
mean and the standard deviation of every metric are printed and written to `<run>/run.json`. The
standard deviation is the population's (divided by the number of folds), like scikit-learn's
`scores.std()`.

The same command with `hydra.run.dir=<run>` completes a cross-validation that was interrupted or had
failed folds: finished folds are kept, others resume from their last checkpoint.
"""

import json
import logging
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.utils import get_method
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from .errors import UserError
from .project import project
from .redact import redact
from .runs import slurm
from .runs.config import CONFIG, folds_to_train, plain, task_options
from .runs.ending import EXIT_CODES, INTERRUPTED, TERMINATED, Ending
from .runs.logs import log_in_signal
from .runs.manifest import MANIFEST, Manifest, read_manifest
from .runs.metric_names import split_name
from .runs.summary import print_averages
from .shell import option, resume_options
from .sweeps.processes import start_server
from .sweeps.tracking import close_runs, mark_runs, packages
from .sweeps.types import State, TrialOutcome
from .sweeps.workers import (
    Ended,
    Workers,
    local_workers,
    on_interrupt,
    run_alone,
    run_job,
)

log = logging.getLogger(__name__)

# The metrics of a run, by kind (best, final, test) and name.
Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True)
class FoldResult:
    """How a fold ended.

    Attributes:
        fold: counted from 0.
        state: FINISHED, FAILED or STOPPED.
        metrics: as in the fold's `run.json`; empty unless it finished.
        error: what went wrong, in one line.
        seconds: from the start of its process to the end.
    """

    fold: int
    state: State
    metrics: Metrics
    error: str
    seconds: float


def cross_validate(cfg: DictConfig) -> dict[str, float]:
    """Train all folds and average their metrics.

    Args:
        cfg: the config of the command, with `data.folds` and without `data.fold`.

    Returns:
        The mean over the folds of the metrics of the best epoch and of the test.

    Raises:
        UserError: the command or the data cannot work, or a fold failed.
    """
    directory = Path(cfg.paths.output_dir)
    check_command(cfg, directory)
    count = folds_to_train(cfg)
    assert count is not None
    configs = [fold_config(cfg, fold_folder(directory, fold), fold) for fold in range(count)]
    log.info("starting: imports and data")
    start_server(packages(cfg))
    environment, gpu_count = check_data(configs[0])
    content = {"name": cfg.name, "seed": cfg.seed, "config": plain(cfg)}
    manifest = Manifest(directory, content | environment | slurm.describe_job(cfg))
    with manifest.recorded():
        directory.mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).write_text(redact(OmegaConf.to_yaml(cfg, resolve=True)), "utf-8")
        manifest.begin()
        workers = local_workers(cfg.trainer, count, gpu_count)
        log.info("%d folds, %d at once, in %s", count, workers.count, directory)
        loop = FoldLoop(workers, configs, directory, cfg.objective.metric)
        loop.results = finished_folds(directory, count)
        with manifest.stage("fit"):
            loop.run()
        results = [loop.results[fold] for fold in sorted(loop.results)]
        manifest.update(folds=[describe(result) for result in results])
        if loop.stopped_by is not None:
            stop(loop.stopped_by, directory, manifest)
        check_results(results, directory)
        means, deviations = average([result.metrics for result in results])
        manifest.update(metrics=means, deviations=deviations)
    print_averages(f"{cfg.name}, {count} folds", means, deviations)
    log.info("run folder: %s", directory)
    return means["best"] | means.get("test", {})


def check_command(cfg: DictConfig, directory: Path) -> None:
    """Reject commands that make no sense for several folds.

    Raises:
        UserError: a checkpoint to resume, several processes, or another run in the folder.
    """
    if cfg.ckpt_path is not None:
        raise UserError(
            f"ckpt_path resumes one run, and data.folds={cfg.data.folds} without data.fold trains "
            "several: add data.fold=<the fold of that checkpoint>."
        )
    if slurm.process() > 0 or int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise UserError(
            "data.folds starts processes of its own: give this command once, for example with "
            "--ntasks=1, or train one fold with data.fold."
        )
    if not (directory / MANIFEST).exists():
        return
    earlier = read_manifest(directory)
    if earlier.get("status") == "finished" or earlier.get("config") != written(cfg):
        raise UserError(
            f"{directory} already holds a run that this command cannot complete, because it has "
            "finished or had other options: choose another hydra.run.dir."
        )


def written(cfg: DictConfig) -> Any:
    """The config as written to `run.json`."""
    return json.loads(redact(json.dumps(plain(cfg), default=str)))


def fold_folder(directory: Path, fold: int) -> Path:
    """The folder of a fold."""
    return directory / f"fold_{fold}"


def fold_config(cfg: DictConfig, folder: Path, fold: int) -> DictConfig:
    """The config of one fold, including Hydra's, for a process that writes to `folder`."""
    config = cfg.copy()
    with read_write(config), open_dict(config):
        config.hydra = OmegaConf.create(OmegaConf.to_container(HydraConfig.get(), resolve=False))
        config.hydra.run.dir = config.hydra.runtime.output_dir = str(folder)
        # The folds print to their files, the console belongs to this command.
        config.hydra.job_logging.root.handlers = ["file"]
        config.hydra.overrides.task = [*task_options(HydraConfig.get()), f"data.fold={fold}"]
        config.data.fold = fold
        if (last := folder / "checkpoints" / "last.ckpt").is_file():
            config.ckpt_path, config.weights_from = str(last), None
    return config


def finished_folds(directory: Path, count: int) -> dict[int, FoldResult]:
    """The folds that an earlier command finished; leftovers of other folds are removed."""
    found = {}
    for fold in range(count):
        folder = fold_folder(directory, fold)
        manifest = read_manifest(folder)
        if manifest.get("status") == "finished":
            seconds = manifest["timings"]["total"]
            found[fold] = FoldResult(fold, State.FINISHED, manifest["metrics"], "", seconds)
            log.info("fold %d  finished earlier", fold)
        elif not (folder / "checkpoints" / "last.ckpt").is_file():
            (folder / MANIFEST).unlink(missing_ok=True)
    return found


def check_data(config: DictConfig) -> tuple[dict[str, Any], int]:
    """Build everything for the first fold in a process of its own.

    This also downloads the data, which the folds would otherwise do concurrently.

    Returns:
        The environment for `run.json`, and the number of GPUs.

    Raises:
        UserError: the config or the data cannot work.
    """
    folder = Path(tempfile.mkdtemp(prefix="check-"))
    result = run_alone(Workers(1), folder / "run.log", check_fold, config, folder, sys.argv)
    if isinstance(result, TrialOutcome):
        if result.retry:
            # Keep the traceback.
            raise UserError(f"{result.error} (see {folder / 'run.log'})")
        shutil.rmtree(folder)
        raise UserError(result.error)
    shutil.rmtree(folder)
    environment, gpu_count = result
    return environment, gpu_count


def check_fold(config: DictConfig, folder: Path, command: list[str]) -> Any:
    """Environment and number of GPUs, found in a worker's process; or a failed `TrialOutcome`."""
    import torch

    from .dry_run import check
    from .runs.environment import collect_environment

    sys.argv = command
    config.hydra.run.dir = config.hydra.runtime.output_dir = str(folder)
    result = run_job(config, check)
    if isinstance(result, TrialOutcome):
        return result
    return collect_environment(project().root), torch.cuda.device_count()


def train_fold(config: DictConfig, script: str) -> Metrics | TrialOutcome:
    """Train a fold in a worker process: its metrics, or why there are none."""
    sys.argv = [script, *task_options(config.hydra)]
    if config.ckpt_path is not None:
        sys.argv += resume_options(config.ckpt_path)
    folder = Path(config.hydra.run.dir)
    mark_runs(config, folder.parent.name, None, f"{folder.parent.name}/{folder.name}")
    try:
        result: Metrics | TrialOutcome = run_job(
            config, partial(_train, function=config.hydra.sweeper.function)
        )
    except (KeyboardInterrupt, SystemExit):
        result = TrialOutcome(State.STOPPED)
    close_runs(config, failed=isinstance(result, TrialOutcome))
    return result


def _train(cfg: DictConfig, function: str) -> Metrics:
    get_method(function)(cfg)
    metrics: Metrics = read_manifest(Path(cfg.paths.output_dir))["metrics"]
    return metrics


class FoldLoop:
    """Trains the folds, as many at a time as there are workers.

    Args:
        workers: the processes.
        configs: one per fold.
        directory: the folder of all folds.
        objective: the metric to show; None to show metrics of the test.

    Attributes:
        results: by fold, as far as they have ended.
        stopped_by: the signal that ended the loop early, if one did.
    """

    def __init__(
        self,
        workers: Workers,
        configs: Sequence[DictConfig],
        directory: Path,
        objective: str | None,
    ) -> None:
        self.workers, self.configs = workers, configs
        self.directory, self.objective = directory, objective
        self.results: dict[int, FoldResult] = {}
        self.stopped_by: signal.Signals | None = None

    def run(self) -> None:
        """Train until all folds have ended; a failed fold does not end the others."""
        waiting = [fold for fold in range(len(self.configs)) if fold not in self.results]
        try:
            with on_interrupt(self._interrupt):
                while self.workers.running or (waiting and self.stopped_by is None):
                    while (
                        waiting and not self.stopped_by and self.workers.free_worker() is not None
                    ):
                        self._start(waiting.pop(0))
                    started = {n: r.started for n, r in self.workers.running.items()}
                    for event in self.workers.wait(timeout=0.5):
                        if isinstance(event, Ended):
                            self._end(event, time.monotonic() - started[event.number])
        finally:
            for fold in list(self.workers.running):
                self.workers.kill(fold, TrialOutcome(State.STOPPED))

    def _start(self, fold: int) -> None:
        script = str(Path(sys.argv[0]).absolute())
        place = fold_folder(self.directory, fold) / "run.log"
        self.workers.start(fold, place, train_fold, self.configs[fold], script)

    def _end(self, event: Ended, seconds: float) -> None:
        found = event.result
        outcome = found if isinstance(found, TrialOutcome) else TrialOutcome(State.FINISHED)
        metrics = {} if isinstance(found, TrialOutcome) else found
        result = FoldResult(event.number, outcome.state, metrics, outcome.error, seconds)
        self.results[event.number] = result
        log.info(
            "fold %d  %s  %s  %.1f s  (%d/%d)",
            result.fold,
            result.state,
            result.error or words_of(metrics, self.objective),
            seconds,
            len(self.results),
            len(self.configs),
        )

    def _interrupt(self, signum: int) -> None:
        """Save and end the folds; kill them on the second signal."""
        if self.stopped_by is not None:
            for fold in self.workers.running:
                self.workers.kill(fold, TrialOutcome(State.STOPPED))
            return
        self.stopped_by = signal.Signals(signum)
        text = "saving and ending the folds; repeat the signal to stop them now"
        log_in_signal(log, logging.INFO, text)
        for running in self.workers.running.values():
            with suppress(ProcessLookupError):
                os.kill(running.process.pid or 0, signal.SIGINT)


def words_of(metrics: Metrics, objective: str | None) -> str:
    """The objective and the test metric of the same name, in one line."""
    best, test = metrics.get("best", {}), metrics.get("test", {})
    word = split_name(str(objective))[1]
    tested = [name for name in test if split_name(name)[1] == word] or list(test)[:1]
    shown = {name: best[name] for name in [objective] if name in best}
    shown |= {name: test[name] for name in tested}
    return "  ".join(f"{name} {value:.4g}" for name, value in shown.items())


def describe(result: FoldResult) -> dict[str, Any]:
    """The entry of a fold in `run.json`."""
    content: dict[str, Any] = {"fold": result.fold, "status": str(result.state)}
    content |= {"metrics": result.metrics} if result.metrics else {}
    content |= {"error": result.error} if result.error else {}
    return content | {"seconds": round(result.seconds, 3)}


def stop(signum: signal.Signals, directory: Path, manifest: Manifest) -> NoReturn:
    """End the command like an interrupted run, with the exit code of the signal."""
    log.info("complete it with the same options and %s", option("hydra.run.dir", directory))
    ending: Ending = INTERRUPTED if signum is signal.SIGINT else TERMINATED
    manifest.note_ending(ending)
    sys.exit(EXIT_CODES[ending.cause])


def check_results(results: Sequence[FoldResult], directory: Path) -> None:
    """Raise a UserError if folds failed, because a mean of fewer folds is not comparable."""
    failed = [result for result in results if result.state is not State.FINISHED]
    if not failed:
        return
    first = failed[0]
    names = ", ".join(str(result.fold) for result in failed)
    what = f"Fold {names}" if len(failed) == 1 else f"Folds {names}"
    error = first.error.rstrip(".") or "it was stopped"
    raise UserError(
        f"{what} of {len(results)} did not finish, so there is no mean ({error}): the log is "
        f"{fold_folder(directory, first.fold) / 'run.log'}; the same command with "
        f"{option('hydra.run.dir', directory)} completes it."
    )


def average(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> tuple[Metrics, Metrics]:
    """Mean and standard deviation of every metric that all runs have."""
    means: Metrics = {}
    deviations: Metrics = {}
    for part in runs[0]:
        rows = [run.get(part, {}) for run in runs]
        names = [name for name in rows[0] if all(name in row for row in rows)]
        values = {name: [row[name] for row in rows] for name in names}
        means[part] = {name: statistics.fmean(column) for name, column in values.items()}
        deviations[part] = {name: _deviation(column) for name, column in values.items()}
    return means, deviations


def _deviation(values: Sequence[float]) -> float:
    mean = statistics.fmean(values)
    return float(statistics.fmean([(value - mean) ** 2 for value in values]) ** 0.5)
