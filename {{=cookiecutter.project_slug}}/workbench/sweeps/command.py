"""What the command of a sweep does, whichever engine searches."""

import logging
import sys
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto

from ..errors import UserError
from ..runs.logs import RunLog, capture_everything, console_handler
from . import loggers
from .display import Display
from .engines import cluster_of
from .identity import identify
from .leaderboard import best_trials
from .notes import Failures, all_failed, progress_of, why_no_winner
from .plan import Plan, narrowed
from .preflight import check_point, warn_of_separate_runs
from .results import finish
from .search import Record
from .types import Next, State, Trial, TrialOutcome, excesses
from .workers import Workers, start_server

log = logging.getLogger(__name__)

CONTINUE = "the same command continues the sweep"


class Stop(Enum):
    """Why a sweep ends before all its trials have ended."""

    INTERRUPT = auto()
    TIMEOUT = auto()
    ERRORS = auto()


class Sweep(ABC):
    """A sweep while it runs.

    Args:
        plan: what it is to do.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stopped_by: Stop | None = None
        self.failures = Failures()

    @abstractmethod
    def prepare(self, gpu_count: int) -> None:
        """See what there is room for, on a machine with so many GPUs."""

    @abstractmethod
    def open(self) -> Record:
        """Open what remembers the trials."""

    @abstractmethod
    def search(self) -> None:
        """Run the trials."""

    def run(self) -> None:
        """Check, search, and write down what was found."""
        logging.basicConfig(level=logging.INFO, handlers=[console_handler()], force=True)
        capture_everything()
        self.connect()
        start_server(loggers.packages(self.plan.config))
        threading.Thread(target=self.warm_up, daemon=True).start()
        checked = check_point(self.plan)
        if checked.space != self.plan.space:
            self.plan = narrowed(self.plan, checked.space)
        self.prepare(checked.gpu_count)
        self.plan = replace(self.plan, identity=identify(self.plan, checked.data))
        self.write_log()
        warn_of_separate_runs(self.plan)
        record = self.open()
        base = replace(self.plan.base, parent_run=loggers.begin_parent(self.plan, record))
        self.plan = plan = replace(self.plan, base=base)
        metric = plan.objectives[0].metric
        self.display = Display(plan.name, metric, plan.n_trials, plan.unit)
        self.show_earlier(record)
        try:
            self.search()
        finally:
            record.close()
        finish(plan, record, self.testers())
        loggers.end_parent(plan, record)
        self.conclude(record)

    def connect(self) -> None:
        """Join the cluster, if trials run on one."""
        if (cluster := cluster_of(self.plan.settings)) is not None:
            cluster.connect(self.plan.settings.address)

    def warm_up(self) -> None:
        """Import what the search and its report need while the first trial is checked."""
        with suppress(ImportError):
            # The second for Optuna's importances.
            import optuna.visualization  # noqa: F401
            import sklearn.ensemble  # noqa: F401

    def testers(self) -> Workers:
        """Workers of this machine, to test trials when none is trained any more."""
        return Workers(1)

    def write_log(self) -> None:
        """Write the sweep's lines to `sweep.log` too."""
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
                counts[trial.state] += 1
                self.failures.ever_finished |= trial.state is not State.FAILED
        for trial in best_trials(trials, objectives):
            self.display.offer(trial.values[0], trial.number, objectives[0].mode)
        if ended := sum(counts.values()):
            words = "continuing %s: %d of %d trials have ended"
            log.info(words, self.plan.name, ended, self.plan.n_trials)

    @property
    def is_stopping(self) -> bool:
        """Whether no trial is to be started any more."""
        return self.stopped_by is not None or self.failures.is_hopeless

    def note_end(self, record: Record, trial: Trial, outcome: TrialOutcome, decision: Next) -> None:
        """Show how a trial ended, and remember which error it had."""
        if self.stopped_by is None:
            self.failures.note(outcome, trial.params)
        if outcome.state is State.FINISHED:
            self.note_best(record, trial, outcome)
        self.display.end(trial, outcome, decision)

    def note_best(self, record: Record, trial: Trial, outcome: TrialOutcome) -> None:
        """Show the best trial so far."""
        if len(self.plan.objectives) > 1:
            front = best_trials(record.records(), self.plan.objectives)
            self.display.best = f"{len(front)} trials of a Pareto front"
            return
        objective, limits = self.plan.objectives[0], self.plan.settings.limits
        if all(excess <= 0 for excess in excesses(outcome.metrics, limits).values()):
            value = outcome.metrics[objective.metric]
            self.display.offer(value, trial.number, objective.mode)

    def conclude(self, record: Record) -> None:
        """Say how the sweep ended, for people and, by the exit code, for programs.

        Raises:
            UserError: the trials fail alike, or there is no winner and will be none.
        """
        records, is_finished = record.records(), record.is_finished()
        no_winner = why_no_winner(records, self.plan.objectives, self.plan.settings.limits)
        progress = progress_of(records, self.plan.n_trials)
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
        if no_winner is not None and (is_finished or all_failed(records)):
            raise UserError(
                f"{no_winner.rstrip('.')}. {logs}" if all_failed(records) else no_winner
            )
        if no_winner is not None:
            log.warning("%s", no_winner)
        if self.stopped_by is Stop.TIMEOUT and not is_finished:
            log.info("timeout: %s; %s", progress, CONTINUE)
