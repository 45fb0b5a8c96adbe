"""The channel from a trial's process to the sweep, and what its reports count."""

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from .types import Unit, Verdict

# Lightning's own limit if neither epochs nor steps are given.
DEFAULT_EPOCHS = 1000


class Step(NamedTuple):
    """What a trial sends after an epoch or validation.

    Attributes:
        step: number of epochs or validations so far.
        value: the objective.
        is_last: whether the training is complete.
        repeats_to: the last step that repeats a report of an earlier attempt; 0 if none does.
    """

    step: int
    value: float
    is_last: bool
    repeats_to: int = 0


class Result(NamedTuple):
    """What a process sends at its end."""

    value: Any


class TrialEnded(BaseException):
    """Ends a trial that the sweep has pruned or stopped.

    Not an `Exception`: a handler of all exceptions must not continue such a trial.
    """


class Channel:
    """The channel from a trial's process to the sweep.

    Attributes:
        verdict: the last answer of the sweep.
        earlier: the folders of earlier attempts, the newest first.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._offset = 0
        self._furthest = 0
        self._ended: list[float] = []
        self.verdict = Verdict.CONTINUE
        self.earlier: list[Path] = []

    def report(
        self, step: int, value: float, is_last: bool = False, repeats_to: int = 0
    ) -> Verdict:
        """Send the value after an epoch or validation, counted from 1, and wait for the verdict.

        With several seeds or folds, the mean over them is sent, in which completed ones count with
        their best value: a configuration is compared with others at the same stage. After the last
        report nothing is left to prune, so the verdict is always CONTINUE.
        """
        mean = sum([*self._ended, value]) / (len(self._ended) + 1)
        self._furthest = max(self._furthest, step)
        last = self._offset + repeats_to if repeats_to else 0
        self._connection.send(Step(self._offset + step, mean, is_last, last))
        verdict: Verdict = self._connection.recv()
        self.verdict = Verdict.CONTINUE if is_last else verdict
        return self.verdict

    def repeat(self, reports: list[tuple[int, float]]) -> Verdict:
        """Send the reports of an earlier attempt: to the sweep, a resumed trial is a new one.

        The verdict is PAUSE if the attempt was killed when it had to pause, and else CONTINUE: a
        trial that resumes is not pruned before its next report.
        """
        for step, value in reports:
            self.report(step, value, repeats_to=reports[-1][0])
        if self.verdict is not Verdict.PAUSE:
            self.verdict = Verdict.CONTINUE
        return self.verdict

    def end_run(self, best: float, length: int | None) -> None:
        """Continue with the next seed or fold.

        Args:
            best: the objective of the completed training.
            length: number of reports of a complete training; None for the number sent.
        """
        self._ended.append(best)
        self._offset += length or self._furthest
        self._furthest = 0


# Set in the process of a trial; None in the other processes of a DDP trial.
current: Channel | None = None


def report(step: int, value: float) -> None:
    """Report the objective of a trial while it runs, and end the trial if it is pruned.

    Without effect outside of a sweep.

    Args:
        step: number of epochs or other units so far; the pruner compares trials at the same one.
        value: the objective.

    Raises:
        TrialEnded: the sweep has pruned or stopped this trial.
    """
    if current is not None and current.report(int(step), float(value)) is not Verdict.CONTINUE:
        raise TrialEnded


def earlier_folders() -> list[Path]:
    """The output folders of earlier attempts at this trial that did not end, the newest first."""
    return [] if current is None else current.earlier


def unit_of(trainer: Any) -> Unit:
    """What a trial reports: epochs, or validations if epochs have several or never end.

    Args:
        trainer: the trainer, or its config.
    """
    every = getattr(trainer, "check_val_every_n_epoch", 1)
    interval = getattr(trainer, "val_check_interval", None)
    # 1.0 is once per epoch, and 1 is after every batch.
    is_once = interval is None or (isinstance(interval, float) and interval == 1.0)
    return Unit.EPOCH if is_once and every is not None else Unit.VALIDATION


def max_epochs_of(trainer: Any) -> int | None:
    """Number of epochs of a complete training; None without such a limit."""
    epochs = getattr(trainer, "max_epochs", None)
    if epochs is None and max_steps_of(trainer) is None:
        return DEFAULT_EPOCHS
    return None if epochs is None or epochs < 0 else int(epochs)


def max_steps_of(trainer: Any) -> int | None:
    """Number of optimizer steps of a complete training; None without such a limit."""
    steps = getattr(trainer, "max_steps", -1)
    return None if steps is None or steps < 0 else int(steps)


def is_over(trainer: Any, epochs: int, steps: int) -> bool:
    """Whether a training is complete after this number of epochs and steps."""
    max_epochs, max_steps = max_epochs_of(trainer), max_steps_of(trainer)
    return (max_epochs is not None and epochs >= max_epochs) or (
        max_steps is not None and steps >= max_steps
    )
