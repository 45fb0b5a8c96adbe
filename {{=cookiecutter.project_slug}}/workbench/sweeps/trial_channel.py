"""The line from a trial's process to the sweep."""

from multiprocessing.connection import Connection

from .types import Verdict


class Channel:
    """The line from a trial's process to the sweep.

    Attributes:
        answer: what the sweep said last.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0
        self._furthest = 0
        self._ended: list[float] = []
        self.answer = Verdict.CONTINUE

    def report(self, step: int, value: float, is_last: bool = False) -> Verdict:
        """Send the value after an epoch or a validation, counted from 1, and wait for the answer.

        With several seeds or folds it is the mean over them, those before by their best: so a point
        is compared with others that have come as far. After the last one nothing
        is left to end.
        """
        mean = sum([*self._ended, value]) / (len(self._ended) + 1)
        self._furthest = max(self._furthest, step)
        self._connection.send((self._offset + step, mean, is_last))
        answer: Verdict = self._connection.recv()
        self.answer = Verdict.CONTINUE if is_last else answer
        return self.answer

    def repeat(self, reports: list[tuple[int, float]]) -> None:
        """Send what an earlier try of this trial has sent: a trial that is resumed is another one.

        The answers do not matter: the next report gets one.
        """
        for step, value in reports:
            self.report(step, value)
        self.answer = Verdict.CONTINUE

    def end_run(self, best: float, length: int | None) -> None:
        """Begin with the next seed or fold.

        Args:
            best: the objective of the training that has ended.
            length: the reports of a whole training; None for those that there were.
        """
        self._ended.append(best)
        self._offset += length or self._furthest
        self._furthest = 0


# Set in a trial's process; the other processes of a DDP trial have none.
current: Channel | None = None
