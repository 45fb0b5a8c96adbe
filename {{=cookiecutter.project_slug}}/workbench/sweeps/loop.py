"""The loop of a sweep: ask for a trial, start it, listen, tell how it ended.

Only this process accesses the study; a trial has a channel to this process. A free worker never
waits for the others.
"""

import logging
import sys
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto

from ..errors import UserError
from ..runs.config import plain
from ..runs.logs import RunLog, capture_everything, console_handler, log_in_signal
from . import tracking
from . import trial as trials
from .application import main_module
from .command import narrowed
from .display import Display
from .engines import Record, Search, cluster_of
from .identity import identify, targets
from .leaderboard import best_trials
from .notes import Failures, all_failed, progress_of, why_no_winner
from .optuna_search import open_search
from .plan import Plan
from .preflight import check_point, make_workers, warn_of_separate_runs
from .processes import start_server
from .promoting_search import search_class
from .results import finish
from .types import (
    UNLIMITED,
    Next,
    State,
    Trial,
    TrialOutcome,
    Verdict,
    excesses,
    judged,
    out_of,
    trial_folder,
)
from .workers import AnyWorkers, Ended, Progress, Workers, on_interrupt

log = logging.getLogger(__name__)

CONTINUE = "the same command continues the sweep"


class Stop(Enum):
    """Why a sweep ends before all its trials have ended."""

    INTERRUPT = auto()
    TIMEOUT = auto()
    ERRORS = auto()


class Sweep(ABC):
    """A sweep while it runs; engines implement how."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stopped_by: Stop | None = None
        self.failures = Failures()

    @abstractmethod
    def prepare(self, gpu_count: int) -> None:
        """Allocate workers, on a machine with this number of GPUs."""

    @abstractmethod
    def open(self) -> Record:
        """Open the study."""

    @abstractmethod
    def search(self) -> None:
        """Run the trials."""

    def run(self) -> None:
        """Check, search, and write the results."""
        logging.basicConfig(level=logging.INFO, handlers=[console_handler()], force=True)
        capture_everything()
        self.connect()
        if self.plan.base.is_application:
            named = targets(plain(self.plan.config, resolve=False))
            start_server([name.rpartition(".")[0] for name in named], main_module())
        threading.Thread(target=self.warm_up, daemon=True).start()
        checked = check_point(self.plan)
        if checked.space != self.plan.space:
            self.plan = narrowed(self.plan, checked.space)
        self.prepare(checked.gpu_count)
        self.plan = replace(self.plan, identity=identify(self.plan, checked.data))
        self.write_log()
        warn_of_separate_runs(self.plan)
        record = self.open()
        base = replace(self.plan.base, parent_run=tracking.begin_parent(self.plan, record))
        self.plan = plan = replace(self.plan, base=base)
        metric = plan.objectives[0].metric
        self.display = Display(plan.name, metric, plan.n_trials, plan.unit)
        self.show_earlier(record)
        try:
            self.search()
        finally:
            record.close()
        finish(plan, record, self.testers())
        tracking.end_parent(plan, record)
        self.conclude(record)

    def connect(self) -> None:
        """Join the cluster that the trials run on, if any."""
        if (cluster := cluster_of(self.plan.settings)) is not None:
            cluster.connect(self.plan.settings.address)

    def warm_up(self) -> None:
        """Import what the search and its report need while the first trial is checked."""
        with suppress(ImportError):
            # For Optuna's importances.
            import sklearn.ensemble  # noqa: F401

            from .figures import draw_nothing

            draw_nothing()

    def testers(self) -> Workers:
        """Workers of this machine that test trials at the end."""
        return Workers(1)

    def write_log(self) -> None:
        """Write the log to `sweep.log` as well."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        file = RunLog(self.plan.folder / "sweep.log", encoding="utf-8")
        file.setFormatter(logging.Formatter("[%(asctime)s] %(message)s"))
        logging.getLogger().addHandler(file)

    def show_earlier(self, record: Record) -> None:
        """Count the trials of earlier commands."""
        objectives, counts = self.plan.objectives, self.display.counts
        trials = record.records()
        for trial in trials:
            if not trial.superseded and trial.state in counts:
                self.display.count(trial.number, trial.state)
                self.failures.ever_finished |= trial.state is not State.FAILED
        for trial in best_trials(trials, objectives):
            self.display.offer(trial.values[0], trial.number, objectives[0].mode)
        if ended := sum(counts.values()):
            words = "continuing %s: %s trials have ended"
            log.info(words, self.plan.name, out_of(ended, self.plan.n_trials))

    @property
    def is_stopping(self) -> bool:
        """Whether no more trials are started."""
        return self.stopped_by is not None or self.failures.is_hopeless

    def note_end(self, record: Record, trial: Trial, outcome: TrialOutcome, decision: Next) -> None:
        """Display how a trial ended, and count failures."""
        if self.stopped_by is None:
            self.failures.note(outcome, trial.params)
        if outcome.state is State.FINISHED:
            self.note_best(record, trial, outcome)
        self.display.end(trial, outcome, decision)

    def note_best(self, record: Record, trial: Trial, outcome: TrialOutcome) -> None:
        """Update the best trial so far."""
        if len(self.plan.objectives) > 1:
            front = best_trials(record.records(), self.plan.objectives)
            self.display.best = f"{len(front)} trials of a Pareto front"
            return
        objective, limits = self.plan.objectives[0], self.plan.settings.limits
        if all(excess <= 0 for excess in excesses(outcome.metrics, limits).values()):
            value = outcome.metrics[objective.metric]
            self.display.offer(value, trial.number, objective.mode)

    def conclude(self, record: Record) -> None:
        """Report how the sweep ended, by the log and the exit code.

        Raises:
            UserError: the trials fail with the same error, or there will be no winner.
        """
        records, is_finished = record.records(), record.is_finished()
        no_winner = why_no_winner(records, self.plan.objectives, self.plan.settings.limits)
        progress, budget = progress_of(records, self.plan.n_trials), record.ended_by()
        if self.stopped_by is Stop.INTERRUPT:
            if no_winner is not None:
                log.warning("%s", no_winner)
            log.info("interrupted: %s; %s", progress, CONTINUE)
            sys.exit(130)
        logs = f"Their logs are in {self.plan.folder / 'trials'}."
        if self.failures.is_hopeless or self.stopped_by is Stop.ERRORS:
            raise UserError(
                f"The last {self.failures.count} trials ended with the same error: "
                f"{self.failures.error.rstrip('.')}. {logs}"
            )
        # With a larger budget, trials that were stopped may still win.
        is_final = is_finished and budget is None
        if no_winner is not None and (is_final or all_failed(records)):
            raise UserError(
                f"{no_winner.rstrip('.')}. {logs}" if all_failed(records) else no_winner
            )
        if no_winner is not None:
            log.warning("%s", no_winner)
        if budget is not None:
            log.info("%s: %s; raise or remove this limit to continue", budget, progress)
        elif self.stopped_by is Stop.TIMEOUT and not is_finished:
            log.info("timeout: %s; %s", progress, CONTINUE)


class AskTellSweep(Sweep):
    """A sweep that asks a search for trials, and tells it their outcomes."""

    def prepare(self, gpu_count: int) -> None:
        """Start the workers."""
        self.workers = make_workers(self.plan, gpu_count)

    def testers(self) -> Workers:
        """The workers of the trials, if they are on this machine."""
        return self.workers if isinstance(self.workers, Workers) else super().testers()

    def open(self) -> Search:
        """Open the study."""
        self.study = self.open_study()
        self.trials: dict[int, Trial] = {}
        return self.study

    def open_study(self) -> Search:
        """Open the study for the search."""
        return open_search(self.plan, search_class)

    def search(self) -> None:
        """Run trials on all workers until all have ended."""
        workers = self.workers
        count, folder = self.plan.n_trials, self.plan.folder
        self.is_used_up()
        size = f"{count} trials" if count < UNLIMITED else self.display.budget
        log.info("%s, %d at once, in %s", size, workers.count, folder)
        try:
            with on_interrupt(self.interrupt), self.display.live():
                self.loop(workers)
        finally:
            for number in list(workers.running):
                workers.kill(number, TrialOutcome(State.STOPPED))
            workers.close()

    def is_used_up(self) -> bool:
        """Whether all epochs have been trained, so that the running trials are to stop."""
        budget = self.plan.settings.epochs
        if budget is None:
            return False
        trained = self.study.trained()
        self.display.budget = f"{trained} of {budget} {self.plan.unit}s"
        return trained >= budget

    def loop(self, workers: AnyWorkers) -> None:
        """Ask, start, listen and tell until all trials have ended or the sweep is stopped."""
        deadline = time.monotonic() + (self.plan.settings.timeout or float("inf"))
        while True:
            if self.stopped_by is None and time.monotonic() > deadline:
                log.info("timeout: the running trials stop after their epochs")
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
        """Ask for a trial for each free worker, and start it."""
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
        """Answer a report, or tell the search the outcome of a trial."""
        if isinstance(event, Progress):
            self.display.report(event.number, event.step, event.value)
            if event.repeats_to:
                self.study.repeat(event.number, event.step, event.repeats_to)
            verdict = self.study.report(event.number, event.step, event.value)
            is_over = self.is_used_up() or self.stopped_by is not None
            if is_over and verdict is Verdict.CONTINUE:
                verdict = Verdict.STOP
            workers.answer(event.number, verdict)
            return
        trial, outcome = self.trials.pop(event.number), judged(event.result, self.plan.objectives)
        decision = self.study.tell(event.number, outcome)
        self.note_end(self.study, trial, outcome, decision)
        if self.plan.base.is_application:
            return  # its files are not known
        if decision in (Next.NOTHING, Next.PAUSE):
            self.delete_checkpoints(trial, decision)

    def delete_checkpoints(self, trial: Trial, decision: Next) -> None:
        """Delete checkpoints that nothing resumes from; each seed and fold has its own.

        The trial has taken over the best checkpoints of its earlier attempts.
        """
        own, *earlier = (self.plan.folder / trial_folder(n) for n in (trial.number, *trial.earlier))
        for folder in earlier:
            for path in (*folder.glob("**/last.ckpt"), *folder.glob("**/best.ckpt")):
                is_over = decision is Next.NOTHING and path.name == "last.ckpt"
                # An attempt that trained nothing has saved nothing.
                if is_over or (own / path.relative_to(folder)).exists():
                    path.unlink()
        if decision is Next.NOTHING:
            for last in own.glob("**/last.ckpt"):
                last.unlink()

    def kill_late(self, workers: AnyWorkers) -> None:
        """Kill trials that exceed `trial_timeout`."""
        limit = self.plan.settings.trial_timeout
        for number, running in workers.running.items():
            if limit is not None and time.monotonic() - running.started > limit:
                error = f"took longer than trial_timeout={limit:g} seconds"
                workers.kill(number, TrialOutcome(State.FAILED, error=error))

    def interrupt(self, signum: int) -> None:
        """Stop the trials after their epoch; on a second Ctrl-C or after a timeout, now."""
        is_first, self.stopped_by = self.stopped_by is None, Stop.INTERRUPT
        if is_first:
            text = "the running trials stop after their epochs; interrupt again to stop now"
            log_in_signal(log, logging.INFO, text)
            return
        for number in self.workers.running:
            self.workers.kill(number, TrialOutcome(State.STOPPED))
