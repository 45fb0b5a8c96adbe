"""How long a trial trains, and what its reports count."""

from typing import Any

from .types import Unit

# Lightning's own limit where neither epochs nor steps are given.
DEFAULT_EPOCHS = 1000


def unit_of(trainer: Any) -> Unit:
    """What the reports of a trial count: epochs, or validations if epochs have several or no end.

    Args:
        trainer: the trainer, or its config.
    """
    every = getattr(trainer, "check_val_every_n_epoch", 1)
    interval = getattr(trainer, "val_check_interval", None)
    # 1.0 is once per epoch, and 1 is after every batch.
    is_once = interval is None or (isinstance(interval, float) and interval == 1.0)
    return Unit.EPOCH if is_once and every is not None else Unit.VALIDATION


def max_epochs_of(trainer: Any) -> int | None:
    """The epochs of a whole training; None if it has no such limit."""
    epochs = getattr(trainer, "max_epochs", None)
    if epochs is None and max_steps_of(trainer) is None:
        return DEFAULT_EPOCHS
    return None if epochs is None or epochs < 0 else int(epochs)


def max_steps_of(trainer: Any) -> int | None:
    """The optimizer steps of a whole training; None if it has no such limit."""
    steps = getattr(trainer, "max_steps", -1)
    return None if steps is None or steps < 0 else int(steps)


def is_over(trainer: Any, epochs: int, steps: int) -> bool:
    """Whether a training has nothing left to do after this number of epochs and steps."""
    max_epochs, max_steps = max_epochs_of(trainer), max_steps_of(trainer)
    return (max_epochs is not None and epochs >= max_epochs) or (
        max_steps is not None and steps >= max_steps
    )
