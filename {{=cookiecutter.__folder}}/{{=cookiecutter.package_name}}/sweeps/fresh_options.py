"""The optimizer's options of this run, where a checkpoint has brought back those of another."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# What a schedule derives from the learning rate and keeps with the optimizer.
RATES = ("lr", "initial_lr", "max_lr", "min_lr")


class FreshOptions(Callback):
    """Trains on from a checkpoint with the optimizer's options of the config.

    Population-based training copies the weights of a better trial and changes its options; the
    optimizer's state in the checkpoint holds the old ones, and Lightning restores it last. A
    schedule goes on where it was, with a learning rate changed in proportion.

    Attributes:
        changes_options: a checkpoint may be resumed with other options.
    """

    changes_options = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the options, now that everything is restored."""
        options = dict(pl_module.hparams["optimizer"])
        for optimizer in trainer.optimizers:
            ratios = [_renew(group, options) for group in optimizer.param_groups]
            for schedule in trainer.lr_scheduler_configs:
                _scale(schedule.scheduler, optimizer, ratios)


def _renew(group: dict[str, Any], options: dict[str, Any]) -> float:
    """Set the options of a group; by what the learning rate was multiplied."""
    for key in options.keys() & group.keys() - {"lr"}:
        group[key] = options[key]
    before = group.get("initial_lr", group["lr"])
    ratio = options.get("lr", before) / before
    for key in RATES:
        if key in group:
            group[key] *= ratio
    return float(ratio)


def _scale(schedule: Any, optimizer: Optimizer, ratios: list[float]) -> None:
    if isinstance(schedule, LRScheduler) and schedule.optimizer is optimizer:
        base_lrs = getattr(schedule, "base_lrs", [])
        schedule.base_lrs = [rate * ratio for rate, ratio in zip(base_lrs, ratios, strict=False)]
