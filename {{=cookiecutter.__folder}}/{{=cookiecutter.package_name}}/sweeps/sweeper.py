"""The loop of a sweep: ask for a trial, start it, listen, tell how it ended.

Only this process speaks to the study; a trial speaks through its own line to this process. A free
worker never waits for the others.
"""

import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from ..errors import UserError
from ..runs.logs import RunLog, capture_everything, console_handler
from . import loggers, ray_workers
from . import trial as trials
from .checking import check_plan
from .display import Display
from .finish import finish
from .plan import Plan, make_plan
from .ray_workers import AnyWorkers
from .records import Outcome, State, Trial, trial_folder
from .results import best_trials
from .search import Search, open_search, warm_up
from .workers import Ended, Report, start_server

log = logging.getLogger(__name__)

# So many trials with the same error in a row end the sweep, and fewer where none ever finished.
SAME_ERRORS = 10
SAME_ERRORS_AT_FIRST = 3


def sweep(config_loader: ConfigLoader, master: DictConfig, arguments: list[str]) -> None:
    """Run a sweep, or go on with it.

    Args:
        config_loader: composes the configs of the trials.
        master: the config of the command, `hydra.sweeper` included.
        arguments: the command's options.

    Raises:
        UserError: something that no trial could work with; or all of them failed alike.
    """
    Sweep(make_plan(config_loader, master, arguments)).run()


class Sweep:
    """A sweep while it runs.

    Args:
        plan: what it is to do.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.trials: dict[int, Trial] = {}
        self.interrupts = 0
        self._errors: list[str] = []
        self._ever_finished = False

    def run(self) -> None:
        """Check, search, and write down what was found."""
        plan = self.plan
        logging.basicConfig(level=logging.INFO, handlers=[console_handler()], force=True)
        capture_everything()
        if plan.settings.is_on_ray:
            ray_workers.connect(plan.settings.address)
        start_server(loggers.packages(plan.config))
        threading.Thread(target=warm_up, args=(plan,), daemon=True).start()
        workers = check_plan(plan)
        self.write_log()
        search = open_search(plan)
        base = replace(plan.base, parent_run=loggers.begin_parent(plan, search))
        self.plan = plan = replace(plan, base=base)
        self.display = Display(plan.name, plan.objectives[0].metric, plan.n_trials)
        self.show_earlier(search)
        log.info("%d trials, %d at once, in %s", plan.n_trials, workers.count, plan.folder)
        try:
            with self.interruptible(workers), self.display.live():
                self.loop(search, workers)
        finally:
            for number in list(workers.running):
                workers.kill(number, Outcome(State.WAITING))
            workers.close()
            search.close()
        finish(plan, search)
        loggers.end_parent(plan, search)
        self.raise_if_hopeless()
        if self.interrupts:
            log.info("interrupted; the same command goes on")
            sys.exit(130)

    def write_log(self) -> None:
        """Write the sweep's lines to `sweep.log` too."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        file = RunLog(self.plan.folder / "sweep.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
        logging.getLogger().addHandler(file)

    def show_earlier(self, search: Search) -> None:
        """Count the trials of earlier commands."""
        objectives, counts = self.plan.objectives, self.display.counts
        for record in search.records():
            if not record.superseded and record.state in counts:
                counts[record.state] += 1
                self._ever_finished |= record.state != State.FAILED
        for record in best_trials(search.records(), objectives):
            self.display.offer(record.values[0], record.number, objectives[0].mode)
        if ended := sum(counts.values()):
            words = "going on with %s: %d of %d trials have ended"
            log.info(words, self.plan.name, ended, self.plan.n_trials)

    def loop(self, search: Search, workers: AnyWorkers) -> None:
        """Until all trials have ended, or it was told to stop."""
        started = time.monotonic()
        timeout = self.plan.settings.timeout
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

    def start_trials(self, search: Search, workers: AnyWorkers) -> None:
        """Give every free worker a trial, as long as there are some."""
        while (worker := workers.free_worker()) is not None:
            trial = search.ask(workers.name(worker))
            if trial is None:
                return
            self.trials[trial.number] = trial
            self.display.start(trial, worker)
            folders = [self.plan.folder / trial_folder(n) for n in (trial.number, *trial.earlier)]
            workers.start(
                trial.number,
                folders[0] / "run.log",
                trials.run_trial,
                self.plan.base,
                trial.params,
                folders,
            )

    def handle(self, event: Report | Ended, search: Search, workers: AnyWorkers) -> None:
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
            last = self.plan.folder / trial_folder(trial.number) / "checkpoints" / "last.ckpt"
            last.unlink(missing_ok=True)

    def judged(self, outcome: Outcome) -> Outcome:
        """The outcome, failed if an objective never was a number."""
        for objective in self.plan.objectives if outcome.state == State.FINISHED else []:
            if not math.isfinite(outcome.metrics.get(objective.metric, math.nan)):
                error = f"{objective.metric} was never a number"
                return Outcome(State.FAILED, outcome.metrics, error)
        return outcome

    def note_best(self, search: Search, trial: Trial, outcome: Outcome) -> None:
        """Show the best trial so far."""
        if len(self.plan.objectives) > 1:
            front = best_trials(search.records(), self.plan.objectives)
            self.display.best = f"{len(front)} trials of a Pareto front"
            return
        value = outcome.metrics.get(self.plan.objectives[0].metric)
        within = all(
            outcome.metrics[name] <= limit for name, limit in self.plan.settings.limits.items()
        )
        if outcome.state == State.FINISHED and value is not None and within:
            self.display.offer(value, trial.number, self.plan.objectives[0].mode)

    def kill_late(self, workers: AnyWorkers) -> None:
        """End trials that take longer than they may."""
        limit = self.plan.settings.trial_timeout
        for number, running in workers.running.items():
            if limit is not None and time.monotonic() - running.started > limit:
                error = f"took longer than trial_timeout={limit:g} seconds"
                workers.kill(number, Outcome(State.FAILED, error=error))

    @contextmanager
    def interruptible(self, workers: AnyWorkers) -> Iterator[None]:
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
                f"{self._errors[-1].rstrip('.')}. Their logs are in {self.plan.folder / 'trials'}."
            )
