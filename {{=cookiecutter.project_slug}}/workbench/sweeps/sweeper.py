"""The loop of a sweep: ask for a trial, start it, listen, tell how it ended.

Only this process speaks to the study; a trial speaks through its own line to this process. A free
worker never waits for the others.
"""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hydra.core.config_loader import ConfigLoader
from hydra.utils import get_class
from omegaconf import DictConfig

from . import trial as trials
from .command import Stop, Sweep
from .optuna_search import OptunaSearch, open_search
from .plan import make_plan
from .preflight import make_workers
from .search import Search
from .types import Next, State, Trial, TrialOutcome, Verdict, judged, trial_folder
from .workers import AnyWorkers, Ended, Progress, Workers

log = logging.getLogger(__name__)


def sweep(config_loader: ConfigLoader, master: DictConfig, arguments: list[str]) -> None:
    """Run a sweep, or go on with it.

    Args:
        config_loader: composes the configs of the trials.
        master: the config of the command, `hydra.sweeper` included.
        arguments: the command's options.

    Raises:
        UserError: something that no trial could work with; or all of them failed alike.
    """
    plan = make_plan(config_loader, master, arguments)
    kind: type[Sweep] = get_class(plan.engine.sweep)
    kind(plan).run()


class AskTellSweep(Sweep):
    """A sweep that asks a search for trials, and tells it how they ended."""

    def prepare(self, gpu_count: int) -> None:
        """Make the workers."""
        self.workers = make_workers(self.plan, gpu_count)

    def testers(self) -> Workers:
        """The same workers, if they are on this machine."""
        return self.workers if isinstance(self.workers, Workers) else super().testers()

    def open(self) -> Search:
        """Open the study."""
        self.study = self.open_study()
        self.trials: dict[int, Trial] = {}
        return self.study

    def open_study(self) -> Search:
        """Open the study for the search."""
        return open_search(self.plan, OptunaSearch)

    def search(self) -> None:
        """Run trials on all workers until all have ended."""
        workers = self.workers
        count, folder = self.plan.n_trials, self.plan.folder
        log.info("%d trials, %d at once, in %s", count, workers.count, folder)
        try:
            with self.interruptible(workers), self.display.live():
                self.loop(workers)
        finally:
            for number in list(workers.running):
                workers.kill(number, TrialOutcome(State.STOPPED))
            workers.close()

    def loop(self, workers: AnyWorkers) -> None:
        """Until all trials have ended, or it was told to stop."""
        deadline = time.monotonic() + (self.plan.settings.timeout or float("inf"))
        while True:
            if self.stopped_by is None and time.monotonic() > deadline:
                log.info("timeout: the running trials end their epochs")
                self.stopped_by = Stop.TIMEOUT
            if not self.is_stopping:
                self.start_trials(workers)
            if not workers.running and (self.is_stopping or self.study.is_finished()):
                return
            for event in workers.wait(timeout=0.5):
                self.handle(event, workers)
            self.kill_late(workers)
            self.study.tick()

    def start_trials(self, workers: AnyWorkers) -> None:
        """Give every free worker a trial, as long as there are some."""
        while (worker := workers.free_worker()) is not None:
            trial = self.study.ask(workers.name(worker))
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

    def handle(self, event: Progress | Ended, workers: AnyWorkers) -> None:
        """Answer a trial, or note its end."""
        if isinstance(event, Progress):
            self.display.report(event.number, event.step, event.value)
            answer = self.study.report(event.number, event.step, event.value)
            workers.answer(event.number, answer if self.stopped_by is None else Verdict.PAUSE)
            return
        trial, outcome = self.trials.pop(event.number), judged(event.result, self.plan.objectives)
        decision = self.study.tell(event.number, outcome)
        self.note_end(self.study, trial, outcome, decision)
        if decision is Next.NOTHING:
            # Nothing resumes from them; each seed and fold has its own.
            for last in (self.plan.folder / trial_folder(trial.number)).glob("**/last.ckpt"):
                last.unlink()

    def kill_late(self, workers: AnyWorkers) -> None:
        """End trials that take longer than they may."""
        limit = self.plan.settings.trial_timeout
        for number, running in workers.running.items():
            if limit is not None and time.monotonic() - running.started > limit:
                error = f"took longer than trial_timeout={limit:g} seconds"
                workers.kill(number, TrialOutcome(State.FAILED, error=error))

    @contextmanager
    def interruptible(self, workers: AnyWorkers) -> Iterator[None]:
        """Ctrl-C once: the running trials end their epoch; twice, or after a timeout: now."""

        def stop(signum: int, frame: FrameType | None) -> None:
            is_first, self.stopped_by = self.stopped_by is None, Stop.INTERRUPT
            if is_first:
                log.info("the running trials end their epochs; once more stops them now")
            else:
                for number in workers.running:
                    workers.kill(number, TrialOutcome(State.STOPPED))

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
