"""What a sweep displays while it runs: a live table on a terminal, otherwise a line per trial."""

import logging
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .notes import ENDED
from .types import UNLIMITED, Next, State, Trial, TrialOutcome, Unit, Value, out_of

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)

LINES = 15  # running trials that fit on a screen
# Suffixes of the line of a trial that has ended.
DECISIONS = {
    Next.NOTHING: "",
    Next.RETRY: "  will be retried",
    Next.RESUME: "  to be resumed",
    Next.PAUSE: "",
}
# Counted even if there is none.
USUAL = (State.FINISHED, State.PRUNED, State.FAILED)


@dataclass
class Shown:
    """A running trial."""

    trial: Trial
    worker: int | str
    step: int = 0
    value: float | None = None
    started: float = field(default_factory=time.monotonic)


class Display:
    """The progress of a sweep.

    Args:
        name: of the study.
        metric: the first objective.
        total: number of trials, including those of earlier commands.
        unit: what the reports of a trial count.
    """

    def __init__(self, name: str, metric: str, total: int, unit: Unit = Unit.EPOCH) -> None:
        self.name, self.metric, self.total, self.unit = name, metric, total, unit
        self.running: dict[int, Shown] = {}
        self.counts = dict.fromkeys(ENDED, 0)
        self._paused: set[int] = set()
        self.best = ""
        # Such as "412 of 1000 epochs".
        self.budget = ""
        self._best_value: float | None = None
        self._ended_here = 0
        self._started = time.monotonic()
        self._is_live = sys.stdout.isatty()

    def live(self) -> AbstractContextManager[Any]:
        """Show the table during a block, on a terminal."""
        if not self._is_live:
            return nullcontext()
        from rich.live import Live

        # Transient: afterwards only the log and the results are of interest.
        return Live(
            get_renderable=self.table, refresh_per_second=2, redirect_stderr=False, transient=True
        )

    def start(self, trial: Trial, worker: int | str) -> None:
        """Add a trial that starts."""
        self.running[trial.number] = Shown(trial, worker)
        if promoted := self._paused & set(trial.earlier):
            self._paused -= promoted
            self.counts[State.PAUSED] -= 1

    def count(self, number: int, state: State) -> None:
        """Count a trial that has ended, until it is promoted."""
        self.counts[state] += 1
        if state is State.PAUSED:
            self._paused.add(number)

    def report(self, number: int, step: int, value: float) -> None:
        """Show the latest report of a trial."""
        self.running[number].step = step
        self.running[number].value = value

    def end(self, trial: Trial, outcome: TrialOutcome, decision: Next) -> None:
        """Remove a trial that has ended, and log one line."""
        shown = self.running.pop(trial.number)
        seconds = time.monotonic() - shown.started
        if decision in (Next.NOTHING, Next.PAUSE):
            self.count(trial.number, outcome.state)
            self._ended_here += 1
        name = f"{trial.number} (resuming {trial.earlier[0]})" if trial.earlier else trial.number
        state = str(outcome.state)
        if outcome.state is State.PAUSED:
            state += f" after {self.unit} {shown.step}"
        value = outcome.metrics.get(self.metric, shown.value)
        result = outcome.error or ("" if value is None else f"{self.metric} {value:.4g}")
        log.info(
            "trial %s  %s  %s  %s  %.1f s%s  (%s)",
            name,
            state,
            result,
            words_of(trial.params),
            seconds,
            DECISIONS[decision],
            ", ".join(filter(None, self._progress())),
        )

    def _progress(self) -> tuple[str, str, str]:
        ended = out_of(sum(self.counts.values()), self.total).replace(" of ", "/")
        return ended, self.budget, f"best {self.best}" if self.best else ""

    def offer(self, value: float, number: int, mode: str) -> None:
        """Consider a trial for the best so far."""
        best = self._best_value
        if best is None or (value > best if mode == "max" else value < best):
            self._best_value, self.best = value, f"{value:.4g} (trial {number})"

    def left(self) -> str:
        """The estimated remaining time; empty while there is no estimate."""
        open_trials = self.total - sum(self.counts.values())
        if not self._ended_here or not open_trials or self.total >= UNLIMITED:
            return ""
        seconds = (time.monotonic() - self._started) / self._ended_here * open_trials
        return f"about {round(seconds) // 60}:{round(seconds) % 60:02d} left"

    def table(self) -> "Table":
        """The table of running trials."""
        from rich.table import Table
        from rich.text import Text

        known = ((state, n) for state, n in self.counts.items() if n or state in USUAL)
        counts = ", ".join(f"{count} {state}" for state, count in known)
        counts += f" of {self.total}" if self.total < UNLIMITED else ""
        counts += f", {self.budget}" if self.budget else ""
        # As Text, so that rich does not interpret a name such as [red].
        title = f"{self.name}: {counts}  {self.left()}"
        table = Table(title=Text(title, "table.title"))
        for column in ("trial", "worker", str(self.unit), self.metric, "values", "seconds"):
            table.add_column(Text(column), overflow="fold" if column == "values" else "ellipsis")
        for shown in list(self.running.values())[:LINES]:
            table.add_row(
                str(shown.trial.number),
                Text(str(shown.worker)),
                str(shown.step or ""),
                "" if shown.value is None else f"{shown.value:.4g}",
                Text(words_of(shown.trial.params)),
                f"{time.monotonic() - shown.started:.0f}",
            )
        table.caption = Text(f"best so far: {self.best or 'none yet'}")
        return table


def words_of(params: Mapping[str, Value]) -> str:
    """A configuration in one line, with the last part of each name if these are unique."""
    names = {key: key.rpartition(".")[2] for key in params}
    if len(set(names.values())) < len(names):
        names = {key: key for key in params}
    return " ".join(
        f"{names[key]}={_short(value) if isinstance(value, float) else value}"
        for key, value in params.items()
    )


def _short(number: float) -> str:
    """A float with four digits, still distinguishable from an integer: 1.0 is not 1."""
    digits = f"{number:.4g}"
    return f"{digits}.0" if digits.lstrip("-").isdigit() else digits
