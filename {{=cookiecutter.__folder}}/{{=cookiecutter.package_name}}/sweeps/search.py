"""What an engine has to do to be searched with."""

from typing import Any, Protocol

from .records import Outcome, Trial, TrialRecord


class Search(Protocol):
    """Proposes trials, judges them while they run, and remembers all of them on disk."""

    def ask(self, worker: str) -> Trial | None:
        """The next trial, None when there is none to start at present."""

    def report(self, number: int, step: int, value: float) -> bool:
        """Note the first objective after `step` epochs; True if the trial is not worth going on."""

    def tell(self, number: int, outcome: Outcome) -> str:
        """Note how a trial ended; what will be done about it, in words."""

    def tick(self) -> None:
        """Called every few seconds, also while nothing happens."""

    def is_finished(self) -> bool:
        """Whether all trials have ended, those of other commands on the same study included."""

    def records(self) -> list[TrialRecord]:
        """All trials so far."""

    def close(self) -> None:
        """Called once at the end."""

    def remember(self, name: str, value: dict[str, Any]) -> None:
        """Keep something with the study."""

    def recall(self, name: str) -> dict[str, Any]:
        """What was kept under this name; empty if nothing was."""
