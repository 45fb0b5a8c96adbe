"""Trials that fail alike: when a sweep stops, and which error was the most frequent."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from .types import State, TrialOutcome, TrialRecord, Value

# How many consecutive trials with the same error end the sweep; fewer if none has finished.
SAME_ERRORS = 10
SAME_ERRORS_AT_FIRST = 3
# Numbers, addresses in memory, and what a loss becomes.
NUMBER = re.compile(r"0x[0-9a-f]+|[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|\b(nan|inf)\b", re.IGNORECASE)


def kind_of(error: str, params: Mapping[str, Value]) -> str:
    """An error without what differs from trial to trial: numbers, and the values that vary."""
    for value in params.values():
        if isinstance(value, str):
            error = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", "#", error)
    return NUMBER.sub("#", error)


def most_common_error(failed: Sequence[TrialRecord]) -> tuple[str, int]:
    """The first error of the most frequent kind, and how many trials had one of this kind."""
    kinds = Counter(kind_of(record.error, record.params) for record in failed)
    kind, count = kinds.most_common(1)[0]
    errors = (record.error for record in failed if kind_of(record.error, record.params) == kind)
    return next(errors), count


class Failures:
    """Counts the trials in a row that failed alike.

    Attributes:
        count: how many it is now.
        error: what the last of them said.
        ever_finished: whether any trial of the sweep did better.
    """

    def __init__(self) -> None:
        self.count = 0
        self.error = ""
        self.ever_finished = False
        self._kind = ""

    def note(self, outcome: TrialOutcome, params: Mapping[str, Value]) -> None:
        """Note how a trial ended; one that was stopped says nothing."""
        if outcome.state is State.FAILED:
            kind = kind_of(outcome.error, params)
            self.count = self.count + 1 if self.count and kind == self._kind else 1
            self._kind, self.error = kind, outcome.error
        elif outcome.state is not State.STOPPED:
            self.count, self.ever_finished = 0, True

    @property
    def is_hopeless(self) -> bool:
        """Whether starting more trials is pointless."""
        return self.count >= (SAME_ERRORS if self.ever_finished else SAME_ERRORS_AT_FIRST)
