"""Learning-rate schedules by name, each with its horizon taken from the trainer."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau

from ..errors import UserError, cannot_build, nearest

# These are drawn over the whole training, so a resumed run must have the same length.
WITH_HORIZON = ("cosine", "one_cycle")


@dataclass(frozen=True)
class Horizon:
    """How long the training is, in optimizer steps; `total` is infinite without an end."""

    total: float
    per_epoch: int


def check_horizon(name: str | None, planned: int | None, total: float) -> None:
    """Refuse to resume a schedule over another length than it was made for.

    Args:
        name: of the schedule.
        planned: optimizer steps that it was made for; None without an end.
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
        UserError: no such schedule or option, or a schedule over an endless training.
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
        raise ValueError(f"warmup is a share from 0 to 1, not {warmup}")
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
    # Counted in optimizer steps: a schedule per epoch would be one step behind after a resume.
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
