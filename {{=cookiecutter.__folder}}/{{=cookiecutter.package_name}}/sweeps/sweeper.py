"""The loop of a sweep: ask for a trial, start it, listen, tell how it ended.

Only this process speaks to the study; a trial speaks through its own line to this process. A free
worker never waits for the others.
"""

import hashlib
import json
import logging
import math
import pickle
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from ..errors import UserError, nearest
from ..runs.logs import capture_everything, console_handler
from . import loggers
from . import trial as trials
from .display import Display
from .enqueue import read_points
from .figures import warm_up
from .records import Objective, Outcome, State, Trial, Value, trial_folder
from .results import best_trials
from .search import Search
from .settings import LARGEST_GRID, Settings, objectives_of, read_settings
from .space import Space, options_of, parse_space
from .trial import Base
from .workers import Ended, Report, Workers, check_gpus_per_trial, start_server, usable_cores

log = logging.getLogger(__name__)

DEFAULT_TRIALS = 20
# So many trials with the same error in a row end the sweep, and fewer where none ever finished.
SAME_ERRORS = 10
SAME_ERRORS_AT_FIRST = 3
# Measured with every training, and so there to be optimised or limited too.
MEASURED = ("parameters", "seconds")
# What shows a single run has no reader among a hundred.
LEFT_OUT = ("loss_curves", "model_summary", "run_texts", "device", "gradient_norms")


def sweep(config_loader: ConfigLoader, master: DictConfig, arguments: list[str]) -> None:
    """Run a sweep, or go on with it.

    Args:
        config_loader: composes the configs of the trials.
        master: the config of the command, `hydra.sweeper` included.
        arguments: the command's options.

    Raises:
        UserError: something that no trial could work with; or all of them failed alike.
    """
    settings = read_settings(master.hydra.sweeper)
    space, fixed = parse_space(settings.search_space, arguments, config_loader)
    if not space.parameters:
        raise UserError(
            "There is nothing to vary: give search_space=<one of configs/search_space/>, or "
            "options with several values as model.net.width=32,64."
        )
    base = make_base(config_loader, master, fixed, space, settings)
    # A mistake in an option that varies shows here, before anything is imported.
    first = space.sample(lambda parameter: parameter.first())
    config_loader.load_sweep_config(master, [*base.fixed, *options_of(first)])
    objectives = objectives_of(pickle.loads(base.composed), settings)
    check_settings(settings, space)
    name = settings.study_name or study_name(master, base, space, objectives, settings)
    base = replace(base, study=name)
    Sweep(Path(master.hydra.sweep.dir) / name, name, settings, space, base, objectives, fixed).run()


def check_settings(settings: Settings, space: Space) -> None:
    """Find what cannot work before the imports of the trials take their time.

    Raises:
        UserError: no such sampler, pruner or database, or a first point outside the space.
    """
    from .journal import open_database
    from .samplers import build_pruner, build_sampler

    build_sampler(settings.sampler, 0)
    build_pruner(settings.pruner)
    read_points(settings.enqueue, space)
    if settings.storage is not None:
        open_database(settings.storage)


def make_base(
    config_loader: ConfigLoader,
    master: DictConfig,
    fixed: list[str],
    space: Space,
    settings: Settings,
) -> Base:
    """Compose what all trials have in common; a mistake in the command shows here."""
    plain = config_loader.load_sweep_config(master, fixed)
    objective = Objective(plain.objective.metric, plain.objective.mode)
    reporter = f"{__name__.rpartition('.')[0]}.reporting.TrialReporter"
    options = [
        *fixed,
        "test=false",
        "trainer.profiler=null",
        # The check before the first trial has looked at the validation.
        "trainer.num_sanity_val_steps=0",
        *(f"++callbacks.{name}=null" for name in LEFT_OUT),
        f"+callbacks.report={{_target_:{reporter},metric:{objective.metric}}}",
    ]
    composed = config_loader.load_sweep_config(master, options)
    return Base(
        config_loader=config_loader,
        master=master,
        fixed=options,
        groups=frozenset(p.key for p in space.parameters if p.is_group),
        composed=pickle.dumps(composed),
        script=str(Path(sys.argv[0]).absolute()),
        objective=objective,
        seeds=settings.seeds,
    )


def study_name(
    master: DictConfig, base: Base, space: Space, objectives: list[Objective], settings: Settings
) -> str:
    """A name that the same command finds again, and another command does not."""
    about = [sorted(base.fixed), repr(space), repr(objectives), settings.seeds, settings.limits]
    digest = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return f"{master.name}-{digest[:6]}"


class Sweep:
    """A sweep in its folder.

    Args:
        folder: where it writes.
        name: the study's name.
        settings: what the sweeper was told.
        space: what varies.
        base: what all trials have in common.
        objectives: what is optimised.
        fixed: the command's options that do not vary.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        settings: Settings,
        space: Space,
        base: Base,
        objectives: list[Objective],
        fixed: list[str],
    ) -> None:
        self.folder = folder.absolute()
        self.name = name
        self.settings = settings
        self.space = space
        self.base = base
        self.objectives = objectives
        self.fixed = fixed
        self.fixed_groups = {word.partition("=")[0] for word in fixed} & set(_groups(base))
        self.trials: dict[int, Trial] = {}
        self.interrupts = 0
        self._errors: list[str] = []
        self._ever_finished = False

    def run(self) -> None:
        """Check, search, and write down what was found."""
        from .finish import finish

        points = self.laid_out_points()
        total = self.settings.n_trials or (DEFAULT_TRIALS if points is None else len(points))
        logging.basicConfig(level=logging.INFO, handlers=[console_handler()], force=True)
        capture_everything()
        start_server(loggers.packages(pickle.loads(self.base.composed)))
        threading.Thread(target=warm_up, daemon=True).start()
        workers = self.check(total)
        self.write_log()
        search = self.open_search(total, points)
        self.base = replace(self.base, parent_run=loggers.begin_parent(self, search))
        self.display = Display(self.name, self.objectives[0].metric, total)
        for record in search.records():
            if not record.superseded and record.state in self.display.counts:
                self.display.counts[record.state] += 1
                self._ever_finished |= record.state != State.FAILED
        for record in best_trials(search.records(), self.objectives):
            self.display.offer(record.values[0], record.number, self.objectives[0].mode)
        ended = sum(self.display.counts.values())
        if ended:
            log.info("going on with %s: %d of %d trials have ended", self.name, ended, total)
        log.info("%d trials, %d at once, in %s", total, workers.count, self.folder)
        try:
            with self.interruptible(workers), self.display.live():
                self.loop(search, workers)
        finally:
            for number in list(workers.running):
                workers.kill(number, Outcome(State.WAITING))
            search.close()
        finish(self, search)
        loggers.end_parent(self, search)
        self.raise_if_hopeless()
        if self.interrupts:
            log.info("interrupted; the same command goes on")
            sys.exit(130)

    def laid_out_points(self) -> list[dict[str, Value]] | None:
        """All points, if the space is small or a grid was asked for; None to let the sampler."""
        finite = [p for p in self.space.parameters if p.choices or p.step]
        size = 1
        for parameter in finite:
            size *= len(parameter.points())
        is_grid = self.settings.sampler.get("name") == "grid"
        if is_grid and size > LARGEST_GRID:
            raise UserError(f"This grid has {size} points: vary less, or use another sampler.")
        small = len(finite) == len(self.space.parameters) and size <= (
            self.settings.n_trials or DEFAULT_TRIALS
        )
        return self.space.grid() if is_grid or small else None

    def write_log(self) -> None:
        """Write the sweep's lines to `sweep.log` too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(self.folder / "sweep.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
        logging.getLogger().addHandler(file)

    def check(self, total: int) -> Workers:
        """Build everything for one point, in a process of its own, and see what GPUs there are.

        Raises:
            UserError: something cannot work, or a metric is asked for that no trial has.
        """
        log.info("starting: imports and data")
        params = self.space.sample(lambda parameter: parameter.first())
        folder = Path(tempfile.mkdtemp(prefix="check-"))
        task = (trials.check_trial, self.base, params, folder)
        result = run_alone(Workers(1), folder / "run.log", *task)
        if isinstance(result, Outcome):
            hint = f" (see {folder / 'run.log'})" if result.retry else ""
            raise UserError(f"{result.error}{hint}")
        shutil.rmtree(folder)
        names, gpu_count = result
        # The test set is for the winner alone.
        known = [*MEASURED, *(name for name in names if not name.startswith("test/"))]
        for metric in [*(o.metric for o in self.objectives), *self.settings.limits]:
            if metric not in known:
                raise UserError(f"No trial measures {metric!r}; {nearest(metric, known)}")
        return self.make_workers(total, gpu_count)

    def make_workers(self, total: int, gpu_count: int) -> Workers:
        """As many workers as there is room for, on the GPUs if the trainer uses them."""
        settings, trainer = self.settings, pickle.loads(self.base.composed).trainer
        gpus = settings.gpus if settings.gpus is not None else list(range(gpu_count))
        if settings.gpus is None and trainer.accelerator not in ("auto", "gpu", "cuda"):
            gpus = []
        devices = trainer.devices if isinstance(trainer.devices, int) else -1
        per_trial = settings.gpus_per_trial
        if per_trial is None:
            per_trial = (len(gpus) if devices < 0 else devices) if gpus else 0
        check_gpus_per_trial(per_trial, len(gpus))
        count = settings.workers or (
            max(1, int(len(gpus) / per_trial + 1e-9)) if per_trial else usable_cores()
        )
        return Workers(min(count, total), gpus or None, per_trial)

    def open_search(self, total: int, points: list[dict[str, Value]] | None) -> Search:
        """The study, joined and with its first points laid out."""
        from .journal import FileLock, open_database, open_journal
        from .optuna_search import OptunaSearch, open_study

        lock = FileLock(self.folder / "study.lock")
        url = self.settings.storage
        storage = open_journal(self.folder, lock) if url is None else open_database(url)
        searched = {
            "search_space": {p.key: repr(p) for p in self.space.parameters},
            "objectives": [[o.metric, o.mode] for o in self.objectives],
        }
        with lock.held():
            study = open_study(storage, self.name, self.objectives, searched)
        search = OptunaSearch(
            study,
            self.space,
            self.objectives,
            total,
            self.settings.max_retries,
            self.settings.limits,
            lock,
        )
        pruner = self.settings.pruner if len(self.objectives) == 1 else {"name": "none"}
        search.join(self.settings.sampler, pruner, pickle.loads(self.base.composed).seed)
        search.lay_out(points or read_points(self.settings.enqueue, self.space))
        return search

    def loop(self, search: Search, workers: Workers) -> None:
        """Until all trials have ended, or it was told to stop."""
        started = time.monotonic()
        timeout = self.settings.timeout
        while True:
            if timeout is not None and time.monotonic() - started > timeout and not self.interrupts:
                log.info("timeout: the running trials end their epochs")
                self.interrupts = 1
            if not self.is_stopping:
                self.start_trials(search, workers)
            if not workers.running and (self.is_stopping or search.is_finished()):
                return
            for event in workers.wait(timeout=0.5):
                self.handle(event, search, workers)
            self.kill_late(workers)
            search.tick()

    @property
    def is_stopping(self) -> bool:
        """Whether no trial is to be started any more."""
        return self.interrupts > 0 or self.is_hopeless

    @property
    def is_hopeless(self) -> bool:
        """Whether trials keep failing with one and the same error."""
        return len(self._errors) >= (SAME_ERRORS if self._ever_finished else SAME_ERRORS_AT_FIRST)

    def start_trials(self, search: Search, workers: Workers) -> None:
        """Give every free worker a trial, as long as there are some."""
        while (worker := workers.free_worker()) is not None:
            trial = search.ask(f"{worker}")
            if trial is None:
                return
            self.trials[trial.number] = trial
            self.display.start(trial, worker)
            folders = [self.folder / trial_folder(n) for n in (trial.number, *trial.earlier)]
            workers.start(
                trial.number,
                folders[0] / "run.log",
                trials.run_trial,
                self.base,
                trial.params,
                folders,
            )

    def handle(self, event: Report | Ended, search: Search, workers: Workers) -> None:
        """Answer a trial, or note its end."""
        if isinstance(event, Report):
            self.display.report(event.number, event.step, event.value)
            prune = search.report(event.number, event.step, event.value)
            word = "save" if self.interrupts else "prune" if prune else "go"
            workers.answer(event.number, word)
            return
        trial, outcome = self.trials.pop(event.number), self.judged(event.result)
        words = search.tell(event.number, outcome)
        if outcome.state == State.FAILED:
            same = not self._errors or self._errors[-1] == outcome.error
            self._errors = [*(self._errors if same else []), outcome.error]
        elif outcome.state != State.WAITING:
            self._errors, self._ever_finished = [], True
            self.note_best(search, trial, outcome)
        self.display.end(trial, outcome, words)
        if not words:
            # Only what broke off is gone on with.
            last = self.folder / trial_folder(trial.number) / "checkpoints" / "last.ckpt"
            last.unlink(missing_ok=True)

    def judged(self, outcome: Outcome) -> Outcome:
        """The outcome, failed if an objective never was a number."""
        for objective in self.objectives if outcome.state == State.FINISHED else []:
            if not math.isfinite(outcome.metrics.get(objective.metric, math.nan)):
                error = f"{objective.metric} was never a number"
                return Outcome(State.FAILED, outcome.metrics, error)
        return outcome

    def note_best(self, search: Search, trial: Trial, outcome: Outcome) -> None:
        """Show the best trial so far."""
        if len(self.objectives) > 1:
            front = best_trials(search.records(), self.objectives)
            self.display.best = f"{len(front)} trials of a Pareto front"
            return
        value = outcome.metrics.get(self.objectives[0].metric)
        within = all(outcome.metrics[name] <= limit for name, limit in self.settings.limits.items())
        if outcome.state == State.FINISHED and value is not None and within:
            self.display.offer(value, trial.number, self.objectives[0].mode)

    def kill_late(self, workers: Workers) -> None:
        """End trials that take longer than they may."""
        limit = self.settings.trial_timeout
        for number, running in workers.running.items():
            if limit is not None and time.monotonic() - running.started > limit:
                error = f"took longer than trial_timeout={limit:g} seconds"
                workers.kill(number, Outcome(State.FAILED, error=error))

    @contextmanager
    def interruptible(self, workers: Workers) -> Iterator[None]:
        """Ctrl-C once: the running trials end their epoch; twice: they end now."""

        def stop(signum: int, frame: FrameType | None) -> None:
            self.interrupts += 1
            if self.interrupts == 1:
                log.info("the running trials end their epochs; once more stops them now")
            else:
                for number in workers.running:
                    workers.kill(number, Outcome(State.WAITING))

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def raise_if_hopeless(self) -> None:
        """End with the error that all trials had."""
        if self.is_hopeless:
            raise UserError(
                f"The last {len(self._errors)} trials ended with the same error: "
                f"{self._errors[-1]}. Their logs are in {self.folder / 'trials'}."
            )


def _groups(base: Base) -> list[str]:
    """All config groups."""
    found = base.config_loader.list_groups("")
    return [*found, *(f"hydra/{name}" for name in base.config_loader.list_groups("hydra"))]


def run_alone(workers: Workers, log_file: Path, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in a worker and wait for its result."""
    workers.start(-1, log_file, function, *args)
    while True:
        for event in workers.wait(timeout=1):
            if isinstance(event, Ended):
                return event.result
            workers.answer(event.number, "go")
