"""What all models share: optimizer, schedule, and a resume that repeats."""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, Self

from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from .optimizers import build_optimizer
from .precision import apply_to_weights
from .schedulers import Horizon, build_scheduler, check_horizon

log = logging.getLogger(__name__)


class BaseModule(LightningModule):
    """A LightningModule whose optimizer and learning-rate schedule come from the configs.

    A subclass saves its hyperparameters (`optimizer` and `scheduler` among them), builds its
    network as `self.net`, and has the usual steps and hooks of Lightning.
    """

    net: nn.Module
    smallest_batch: int = 1  # samples that a training batch needs
    # Size and fingerprint of each part of the data, where a run has told them.
    trained_on: dict[str, dict[str, Any]] = {}  # noqa: RUF012 - never changed in place
    # The options of the run that a resumed run cannot change, or changes with a line in its log.
    trained_with: dict[str, Any] = {}  # noqa: RUF012 - never changed in place

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # torch calls this for every `.to(...)`, so also for `trainer.precision=bf16-true`.
        apply_to_weights(self, lambda: super(BaseModule, self)._apply(fn, recurse), fn)
        return self

    @property
    def metric_names(self) -> list[str] | None:
        """Every name this model logs, for example `val/loss`; None if it does not say.

        With the names, a wrong objective is rejected before training.
        """
        return None

    def parameter_groups(self) -> Iterable[nn.Parameter] | list[dict[str, Any]]:
        """The parameters to optimize, or groups of them with options of their own.

        Override it to train some of them at another rate, without weight decay, or not at all:
        `[{"params": [...], "weight_decay": 0.0}, {"params": [...]}]`.
        """
        return self.parameters()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule from their configs.

        Raises:
            UserError: a resumed run is longer or shorter than its schedule was made for.
        """
        horizon = self._horizon()
        self._check_horizon(horizon)
        optimizer = build_optimizer(self.hparams["optimizer"], self.parameter_groups())
        schedule = build_scheduler(self.hparams["scheduler"], optimizer, horizon)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _horizon(self) -> Horizon:
        # The number of batches is only known once the loaders are there.
        self.trainer.fit_loop.setup_data()
        total = self.trainer.estimated_stepping_batches
        per_epoch = self.trainer.num_training_batches / self.trainer.accumulate_grad_batches
        return Horizon(total, math.ceil(per_epoch))

    def _check_horizon(self, horizon: Horizon) -> None:
        if self.trainer.ckpt_path is not None:
            check_horizon(self.hparams["scheduler"].get("name"), self._planned_steps, horizon.total)
        self._planned_steps = None if math.isinf(horizon.total) else int(horizon.total)

    _planned_steps: int | None = None
    _missed_plateau_step: float | None = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note in the checkpoint which model it is and where its schedule stands."""
        # Relative to the package, so that the checkpoint outlives a renamed project.
        module = type(self).__module__.partition(".")[2]
        checkpoint["model_class"] = f"{module}:{type(self).__name__}"
        checkpoint["trained_on"] = self.trained_on
        checkpoint["trained_with"] = self.trained_with
        checkpoint["planned_steps"] = self._planned_steps
        monitored = self.trainer.callback_metrics.get(self.hparams["scheduler"].get("monitor"))
        checkpoint["monitored"] = None if monitored is None else float(monitored)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember how long the schedule was meant to last, and a step it still has to make.

        And say so if the data are others than those the checkpoint was trained on.
        """
        before = checkpoint.get("trained_on", {})
        changed = [part for part, now in self.trained_on.items() if before.get(part, now) != now]
        if changed:
            log.warning(
                "the data have changed since the checkpoint was written: %s; what was measured "
                "before and after does not compare",
                ", ".join(f"{part} ({_sizes(before, self.trained_on, part)})" for part in changed),
            )
        self._planned_steps = checkpoint.get("planned_steps")
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if epochs["processed"] > epochs["completed"]:
            self._missed_plateau_step = checkpoint.get("monitored")

    def on_train_start(self) -> None:
        """Make the plateau schedule's step of the epoch that a resumed checkpoint was saved in.

        Lightning saves before that step, and after a resume no longer has the metric for it.
        """
        missed = self._missed_plateau_step
        for schedule in self.trainer.lr_scheduler_configs:
            plateau = schedule.scheduler
            # A callback such as SWA may have stopped the schedule.
            is_on = schedule.frequency == 1
            if isinstance(plateau, ReduceLROnPlateau) and is_on and missed is not None:
                plateau.step(missed)
        self._missed_plateau_step = None


def _sizes(before: dict[str, Any], now: dict[str, Any], part: str) -> str:
    """For example "1168 samples, now 1200", or "1168 samples, other ones"."""
    old, new = before[part]["samples"], now[part]["samples"]
    return f"{old} samples, other ones" if old == new else f"{old} samples, now {new}"
