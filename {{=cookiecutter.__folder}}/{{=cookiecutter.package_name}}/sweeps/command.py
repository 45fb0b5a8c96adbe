"""What the command of a sweep does, whichever engine searches."""

import logging
import sys
import threading
from abc import ABC, abstractmethod
from dataclasses import replace

from ..errors import UserError
from ..runs.logs import RunLog, capture_everything, console_handler
from . import loggers, ray_workers
from .checking import check_point
from .display import Display
from .finish import finish
from .identity import identify
from .plan import Plan
from .records import Outcome, State, Trial
from .results import best_trials
from .search import Record, warm_up
from .workers import start_server

log = logging.getLogger(__name__)

# So many trials with the same error in a row end the sweep, and fewer where none ever finished.
SAME_ERRORS = 10
SAME_ERRORS_AT_FIRST = 3


class Sweep(ABC):
    """A sweep while it runs.

    Args:
        plan: what it is to do.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.interrupts = 0
        self._errors: list[str] = []
        self._ever_finished = False

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
        threading.Thread(target=warm_up, args=(self.plan,), daemon=True).start()
        checked = check_point(self.plan)
        self.plan = replace(self.plan, identity=identify(self.plan, checked.data))
        self.prepare(checked.gpu_count)
        self.write_log()
        record = self.open()
        base = replace(self.plan.base, parent_run=loggers.begin_parent(self.plan, record))
        self.plan = plan = replace(self.plan, base=base)
        self.display = Display(plan.name, plan.objectives[0].metric, plan.n_trials)
        self.show_earlier(record)
        try:
            self.search()
        finally:
            record.close()
        finish(plan, record)
        loggers.end_parent(plan, record)
        self.raise_if_hopeless()
        if self.interrupts:
            log.info("interrupted; the same command goes on")
            sys.exit(130)

    def connect(self) -> None:
        """Join the cluster, if trials run on one."""
        if self.plan.settings.is_on_ray:
            ray_workers.connect(self.plan.settings.address)

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
                self._ever_finished |= trial.state != State.FAILED
        for trial in best_trials(trials, objectives):
            self.display.offer(trial.values[0], trial.number, objectives[0].mode)
        if ended := sum(counts.values()):
            words = "going on with %s: %d of %d trials have ended"
            log.info(words, self.plan.name, ended, self.plan.n_trials)

    @property
    def is_stopping(self) -> bool:
        """Whether no trial is to be started any more."""
        return self.interrupts > 0 or self.is_hopeless

    @property
    def is_hopeless(self) -> bool:
        """Whether trials keep failing with one and the same error."""
        return len(self._errors) >= (SAME_ERRORS if self._ever_finished else SAME_ERRORS_AT_FIRST)

    def note_end(self, record: Record, trial: Trial, outcome: Outcome, words: str) -> None:
        """Show how a trial ended, and remember which error it had."""
        if outcome.state == State.FAILED:
            same = not self._errors or self._errors[-1] == outcome.error
            self._errors = [*(self._errors if same else []), outcome.error]
        elif outcome.state != State.WAITING:
            self._errors, self._ever_finished = [], True
            self.note_best(record, trial, outcome)
        self.display.end(trial, outcome, words)

    def note_best(self, record: Record, trial: Trial, outcome: Outcome) -> None:
        """Show the best trial so far."""
        if len(self.plan.objectives) > 1:
            front = best_trials(record.records(), self.plan.objectives)
            self.display.best = f"{len(front)} trials of a Pareto front"
            return
        value = outcome.metrics.get(self.plan.objectives[0].metric)
        within = all(
            outcome.metrics[name] <= limit for name, limit in self.plan.settings.limits.items()
        )
        if outcome.state == State.FINISHED and value is not None and within:
            self.display.offer(value, trial.number, self.plan.objectives[0].mode)

    def raise_if_hopeless(self) -> None:
        """End with the error that all trials had."""
        if self.is_hopeless:
            raise UserError(
                f"The last {len(self._errors)} trials ended with the same error: "
                f"{self._errors[-1].rstrip('.')}. Their logs are in {self.plan.folder / 'trials'}."
            )
