"""The line from a trial's process to the sweep."""

from multiprocessing.connection import Connection

from .records import Answer


class Link:
    """The line from a trial's process to the sweep.

    Attributes:
        answer: what the sweep said last.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0
        self._ended: list[float] = []
        self.answer = Answer.CONTINUE

    def report(self, epochs: int, value: float, is_last: bool = False) -> Answer:
        """Tell the value after so many epochs and wait for the answer.

        With several seeds or folds it is the mean over them, those before by their best: so a point
        is compared with others that have come as far. After the last epoch there is nothing to
        prune.
        """
        mean = sum([*self._ended, value]) / (len(self._ended) + 1)
        self._connection.send((self._offset + epochs, mean))
        answer: Answer = self._connection.recv()
        self.answer = Answer.CONTINUE if is_last and answer is Answer.PRUNE else answer
        return self.answer

    def end_run(self, best: float, max_epochs: int) -> None:
        """Begin with the next seed or fold."""
        self._ended.append(best)
        self._offset += max_epochs


# Set in a trial's process; the other processes of a DDP trial have none.
current: Link | None = None
