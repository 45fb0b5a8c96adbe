"""Options that differ from those of the run that is resumed."""

import logging
from collections.abc import Collection
from typing import Any

from ..errors import UserError

log = logging.getLogger(__name__)

# The checkpoint restores these, so a new value would be ignored; or with another value the resumed
# run would not continue the first: its steps, epochs, order, split or best would be different.
FIXED = (
    "optimizer.",
    "scheduler.",
    "objective.",
    "seed",
    "data.batch_size",
    "data.split_seed",
    "data.val_fraction",
    "data.test_fraction",
    "data.fold",
    "data.group",
    "data.split_column",
    "trainer.accumulate_grad_batches",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
)
# These take effect from the resume on, which the log says.
NOTED = ("model.", "data.", "trainer.precision", "trainer.gradient_clip_")
# All others, such as loggers, callbacks, devices and limits, do not change what is trained.
FREE = ("data.num_workers",)
ABSENT = "absent"


def options_of_training(config: dict[str, Any]) -> dict[str, Any]:
    """The options of a run's config that a resumed run is compared by.

    Text of `data` is left out, apart from the names of columns that decide the split: it says where
    the data are, and may hold a password.
    """
    options = _flat(config)
    return {
        name: value
        for name, value in options.items()
        if name.startswith((*FIXED, *NOTED))
        and name not in FREE
        and not (name.startswith("data.") and isinstance(value, str) and name not in FIXED)
    }


def check_options(
    path: str, before: dict[str, Any], now: dict[str, Any], found: Collection[str]
) -> None:
    """Refuse to resume with options that a resumed run cannot change, and log other changes.

    Args:
        path: the checkpoint.
        before: the options of its run.
        now: those of this run.
        found: options that a finder takes from the checkpoint.

    Raises:
        UserError: an option that is fixed has another value.
    """
    changed = {}
    for name in sorted((before.keys() | now.keys()) - set(found)):
        old, new = before.get(name, ABSENT), now.get(name, ABSENT)
        if old != new:
            changed[name] = f"{name} is {old} in the checkpoint and {new} here"
    refused = [text for name, text in changed.items() if name.startswith(FIXED)]
    if refused:
        raise UserError(
            f"A resumed run keeps its options, but {', '.join(refused)}: give the values of the "
            f"checkpoint, or start a new training from its weights with weights_from={path}."
        )
    for text in changed.values():
        log.warning("resumed with another option: %s", text)


def _flat(node: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in node.items():
        if isinstance(value, dict):
            values |= _flat(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values
