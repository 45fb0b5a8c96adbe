"""What an engine has to do to be searched with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from .types import Next, Trial, TrialOutcome, TrialRecord, Verdict

if TYPE_CHECKING:
    from .figures import Figure


class Record(Protocol):
    """Remembers all trials of a sweep on disk."""

    def is_finished(self) -> bool:
        """Whether all trials have ended, those of other commands on the same study included."""

    def records(self) -> list[TrialRecord]:
        """All trials so far."""

    def figures(self) -> Iterable["Figure"]:
        """For the report, what only this engine knows."""

    def close(self) -> None:
        """Called once at the end."""

    def remember(self, name: str, value: dict[str, Any]) -> None:
        """Keep something with the study."""

    def recall(self, name: str) -> dict[str, Any]:
        """What was kept under this name; empty if nothing was."""


class Search(Record, Protocol):
    """Proposes trials, and judges them while they run."""

    def ask(self, worker: str) -> Trial | None:
        """The next trial, None when there is none to start at present."""

    def report(self, number: int, step: int, value: float) -> Verdict:
        """Note the first objective, `step` counted from 1; PRUNE if the trial is unpromising."""

    def tell(self, number: int, outcome: TrialOutcome) -> Next:
        """Note how a trial ended, and decide whether its point is tried again."""

    def tick(self) -> None:
        """Called every few seconds, also while nothing happens."""
