"""Trainings that take turns: an epoch each, round after round.

Each runs in a process of its own and waits at the start of every epoch until it is its turn. What
else the machine does then meets all of them alike, and a ratio is of epochs that ran one after the
other. The first epoch of each is not measured, nor what comes before it.
"""

import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any

from .common import Took


class Turn:
    """One training's end of the line.

    Args:
        line: to the process that gives the turns.
    """

    def __init__(self, line: Connection) -> None:
        self._line = line
        self._started: Took | None = None
        self._trained = 0.0

    def end_training(self) -> None:
        """To be called, if at all, between the last step of an epoch and its validation."""
        self._trained = time.perf_counter()

    def next_epoch(self) -> None:
        """To be called at the start of every epoch: tell of the one before, and wait."""
        if self._started is not None:
            wall, cpu = self._started.wall, self._started.cpu
            now = time.perf_counter()
            steps = max(self._trained - wall, 0.0)
            self._line.send(Took(now - wall, time.process_time() - cpu, steps))
        try:
            self._line.recv()
        except EOFError:  # all rounds are over
            os._exit(0)
        self._started = Took(time.perf_counter(), time.process_time())


Training = Callable[[Turn], Any]


def take_turns(
    trainings: Mapping[str, Training], rounds: int, until: float = math.inf
) -> dict[str, list[Took]]:
    """Seconds of so many epochs of each training, measured by turns.

    Args:
        trainings: they must not end before `rounds + 2` epochs have started.
        rounds: epochs to measure, at most.
        until: when to begin no further round but the first, by `time.monotonic`.

    Raises:
        RuntimeError: a training ended early.
    """
    forks = multiprocessing.get_context("fork")
    contenders: dict[str, Contender] = {}
    for name, training in trainings.items():
        ours, its = forks.Pipe()
        said = tempfile.TemporaryFile()  # noqa: SIM115
        # A copy of an end that others hold open would never tell that it is over.
        inherited = [ours, *(contender.line for contender in contenders.values())]
        process = forks.Process(target=run, args=(training, its, inherited, said))
        process.start()
        its.close()
        contenders[name] = Contender(name, process, ours, said)
    try:
        for contender in contenders.values():
            contender.line.send("the first epoch, all at once")
        for contender in contenders.values():
            contender.receive()
        found: dict[str, list[Took]] = {name: [] for name in contenders}
        for turn in range(rounds):
            if turn > 0 and time.monotonic() > until:
                break
            # None is always the first.
            first = turn % len(contenders)
            order = list(contenders.values())
            for contender in order[first:] + order[:first]:
                contender.line.send("go")
                found[contender.name].append(contender.receive())
    finally:
        for contender in contenders.values():
            contender.line.close()
        for contender in contenders.values():
            contender.process.join()
    return found


@dataclass(frozen=True)
class Contender:
    """A training that runs in a process of its own.

    Attributes:
        name: of the training.
        process: it trains there.
        line: to that process.
        said: what it printed.
    """

    name: str
    process: Any
    line: Connection
    said: IO[bytes]

    def receive(self) -> Took:
        """What it tells of its epoch.

        Raises:
            RuntimeError: it has ended.
        """
        try:
            took: Took = self.line.recv()
        except (EOFError, ConnectionResetError):
            self.said.seek(0)
            raise RuntimeError(
                f"{self.name} ended before all rounds were over:\n{self.said.read().decode()}"
            ) from None
        return took


def run(training: Training, line: Connection, inherited: list[Connection], said: IO[bytes]) -> None:
    """Train in this process, and print into a file."""
    for other in inherited:
        other.close()
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    training(Turn(line))
