"""Optimizers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from ..errors import UserError, cannot_build, nearest

# They depend on the length of the training, so a resumed run must have the same length.
WITH_HORIZON = ("cosine", "one_cycle")


@dataclass(frozen=True)
class Horizon:
    """The length of a training in optimizer steps; `total` is infinite without an end."""

    total: float
    per_epoch: int


def build_optimizer(
    spec: dict[str, Any], parameters: Iterable[nn.Parameter] | list[dict[str, Any]]
) -> Optimizer:
    """Build the optimizer that `spec` names.

    Args:
        spec: `name`, any optimizer class of `torch.optim`, and its arguments.
        parameters: parameters, or groups of them with their own options.

    Raises:
        UserError: there is no such optimizer, or it rejects an argument.
    """
    options = dict(spec)
    name = str(options.pop("name", None))
    known: dict[str, Any] = optimizers()
    if name not in known:
        raise UserError(f"torch.optim has no optimizer {name!r}; {nearest(name, known)}")
    try:
        optimizer: Optimizer = known[name](parameters, **options)
    except (TypeError, ValueError) as error:
        raise cannot_build("optimizer", name, options, error) from error
    return optimizer


def optimizers() -> dict[str, type[Optimizer]]:
    """The optimizers of torch by name."""
    classes = {name: value for name, value in vars(torch.optim).items() if isinstance(value, type)}
    return {
        name: found
        for name, found in classes.items()
        if issubclass(found, Optimizer) and found is not Optimizer
    }


def check_horizon(name: str | None, planned: int | None, total: float) -> None:
    """Reject resuming a schedule with another length.

    Args:
        name: name of the schedule.
        planned: optimizer steps of the first run; None without an end.
        total: optimizer steps of the resumed run.

    Raises:
        UserError: the lengths differ, and the schedule depends on them.
    """
    if name in WITH_HORIZON and planned is not None and planned != total:
        raise UserError(
            f"The {name} schedule of the checkpoint was made for {planned} steps and this run "
            f"has {total}: give the trainer.max_epochs and data.batch_size of the "
            "first run, or start a new training with weights_from instead of ckpt_path."
        )


def build_scheduler(
    spec: dict[str, Any], optimizer: Optimizer, horizon: Horizon
) -> dict[str, Any] | None:
    """Build the schedule that `spec` names, as Lightning's `lr_scheduler` dictionary.

    Args:
        spec: `name` (constant, cosine, one_cycle, plateau, step) and the options of that schedule.
        optimizer: whose learning rate is scheduled.
        horizon: the length of the training.

    Raises:
        UserError: there is no such schedule or option, or it depends on the length of a training
            without an end.
    """
    options = dict(spec)
    name = options.pop("name", None)
    if name == "constant":
        return None
    if name not in SCHEDULES:
        known = [*SCHEDULES, "constant"]
        raise UserError(f"There is no schedule {name!r}; {nearest(str(name), known)}")
    if name in WITH_HORIZON and math.isinf(horizon.total):
        raise UserError(
            f"The schedule {name!r} needs to know the end of the training: "
            "set trainer.max_epochs or trainer.max_steps, or take scheduler=constant."
        )
    try:
        return SCHEDULES[name](optimizer, horizon, **options)
    except (TypeError, ValueError) as error:
        raise cannot_build("schedule", name, options, error) from error


def _cosine(
    optimizer: Optimizer, horizon: Horizon, warmup: float = 0.1, final: float = 0.0
) -> dict[str, Any]:
    if not 0 <= warmup <= 1:
        raise ValueError(f"warmup is a fraction from 0 to 1, not {warmup}")
    warmup_steps = round(warmup * horizon.total)

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = (step - warmup_steps) / max(1, horizon.total - warmup_steps)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    return {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}


def _one_cycle(optimizer: Optimizer, horizon: Horizon, warmup: float = 0.3) -> dict[str, Any]:
    max_lr = [group["lr"] for group in optimizer.param_groups]
    schedule = OneCycleLR(optimizer, max_lr, total_steps=int(horizon.total), pct_start=warmup)
    return {"scheduler": schedule, "interval": "step"}


def _step(
    optimizer: Optimizer, horizon: Horizon, every: int = 10, factor: float = 0.1
) -> dict[str, Any]:
    # In optimizer steps, because a schedule per epoch would lag one step after a resume.
    period = every * horizon.per_epoch
    return {
        "scheduler": LambdaLR(optimizer, lambda step: factor ** (step // period)),
        "interval": "step",
    }


def _plateau(
    optimizer: Optimizer,
    horizon: Horizon,
    monitor: str = "val/loss",
    mode: str = "min",
    patience: int = 5,
    factor: float = 0.5,
) -> dict[str, Any]:
    schedule = ReduceLROnPlateau(optimizer, mode=mode, patience=patience, factor=factor)  # type: ignore[arg-type]
    return {"scheduler": schedule, "interval": "epoch", "monitor": monitor}


SCHEDULES: dict[str, Callable[..., dict[str, Any]]] = {
    "cosine": _cosine,
    "one_cycle": _one_cycle,
    "plateau": _plateau,
    "step": _step,
}
