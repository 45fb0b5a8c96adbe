"""Why training ended."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from ..errors import NotFiniteError

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


class Cause(StrEnum):
    """Everything that can end training."""

    MAX_EPOCHS = "max_epochs"
    MAX_STEPS = "max_steps"
    ONE_BATCH = "fast_dev_run"
    EARLY_STOPPING = "early_stopping"
    TIME_LIMIT = "time_limit"
    PRUNED = "pruned"
    STOPPED = "stopped"
    PAUSED = "paused"
    SHOULD_STOP = "should_stop"
    INTERRUPTED = "interrupted"
    TERMINATED = "terminated"
    NOT_FINITE = "not_finite"
    EXCEPTION = "exception"


@dataclass(frozen=True)
class Ending:
    """Why training ended.

    Attributes:
        cause: for programs.
        text: for people, with the numbers that led to it.
    """

    cause: Cause
    text: str


# The exit codes of a shell for a command that a signal ended.
EXIT_CODES = {Cause.INTERRUPTED: 130, Cause.TERMINATED: 143}
INTERRUPTED = Ending(Cause.INTERRUPTED, "interrupted by Ctrl-C")
TERMINATED = Ending(Cause.TERMINATED, "terminated by SIGTERM")


class EndsTraining:
    """A callback that can end training, and then says why.

    Attributes:
        ending: None until it does.
    """

    ending: Ending | None = None


def ending_of(trainer: "Trainer") -> Ending:
    """Why a trainer has stopped fitting."""
    told = [c.ending for c in trainer.callbacks if isinstance(c, EndsTraining) and c.ending]
    for ending in told:
        if ending.cause in EXIT_CODES:
            return ending
    if trainer.fast_dev_run:
        return Ending(Cause.ONE_BATCH, "trainer.fast_dev_run trains one batch")
    if 0 <= trainer.max_steps <= trainer.global_step:
        return Ending(Cause.MAX_STEPS, f"trainer.max_steps={trainer.max_steps} reached")
    is_whole = not told or told[0].cause is not Cause.TIME_LIMIT
    if (
        is_whole
        and trainer.max_epochs is not None
        and 0 <= trainer.max_epochs <= trainer.current_epoch
    ):
        return Ending(Cause.MAX_EPOCHS, f"trainer.max_epochs={trainer.max_epochs} reached")
    if told:
        return told[0]
    return Ending(Cause.SHOULD_STOP, "a callback or the model set trainer.should_stop")


def ending_by(error: BaseException) -> Ending:
    """Why training ended with an exception."""
    if isinstance(error, NotFiniteError):
        return Ending(Cause.NOT_FINITE, str(error))
    name = type(error).__name__
    # An exception of Lightning, which is not imported only for this check.
    if name == "SIGTERMException":
        return TERMINATED
    # Lightning turns Ctrl-C into an exit.
    if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
        return INTERRUPTED
    return Ending(Cause.EXCEPTION, f"{name}: {error}".rstrip(": "))
