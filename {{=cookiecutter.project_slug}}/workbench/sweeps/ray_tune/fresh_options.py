"""Applies the optimizer options of the config after a checkpoint has restored earlier ones."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.core.optimizer import _init_optimizers_and_lr_schedulers
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# Options that a schedule derives from the learning rate and stores in the optimizer.
RATES = ("lr", "initial_lr", "max_lr", "min_lr")


class FreshOptions(Callback):
    """Continues from a checkpoint with the optimizer options of the config.

    Population-based training copies the weights of a better trial and changes its options. The
    optimizer's state in the checkpoint holds the old ones, and Lightning restores it last, so the
    model builds its optimizers again to obtain the new ones. A schedule continues where it was, and
    its learning rates are scaled.

    Attributes:
        changes_options: a checkpoint may be resumed with other options.
    """

    changes_options = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the options after everything is restored."""
        if trainer.ckpt_path is None:
            return
        for optimizer, fresh in zip(trainer.optimizers, _build(pl_module), strict=True):
            groups = zip(optimizer.param_groups, fresh.param_groups, strict=True)
            ratios = [_renew(group, options) for group, options in groups]
            for schedule in trainer.lr_scheduler_configs:
                _scale(schedule.scheduler, optimizer, ratios)


def _build(model: LightningModule) -> list[Optimizer]:
    """Optimizers as the model builds them, without a change of its attributes."""
    before = dict(vars(model))
    optimizers, _ = _init_optimizers_and_lr_schedulers(model)
    vars(model).clear()
    vars(model).update(before)
    return optimizers


def _renew(group: dict[str, Any], options: dict[str, Any]) -> float:
    """Set the options of a group; returns the factor of the learning rate."""
    for key in options.keys() & group.keys() - {"params", *RATES}:
        group[key] = options[key]
    before = group.get("initial_lr", group["lr"])
    ratio = options.get("initial_lr", options["lr"]) / before if before else 1.0
    for key in RATES:
        if key in group:
            group[key] *= ratio
    return float(ratio)


def _scale(schedule: Any, optimizer: Optimizer, ratios: list[float]) -> None:
    if isinstance(schedule, LRScheduler) and schedule.optimizer is optimizer:
        base_lrs = getattr(schedule, "base_lrs", [])
        schedule.base_lrs = [rate * ratio for rate, ratio in zip(base_lrs, ratios, strict=False)]
