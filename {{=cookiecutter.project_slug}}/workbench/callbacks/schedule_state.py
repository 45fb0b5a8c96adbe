"""What a resumed run has to know about its learning-rate schedules."""

import math
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities.types import LRSchedulerConfig


class ScheduleState(Callback):
    """Makes the step of a plateau schedule that a resumed run would miss.

    Lightning saves at the end of an epoch before that step, and after a resume no longer has the
    metric for it. The checkpoint also gets `planned_steps`, the optimizer steps of the whole
    training, which a schedule may depend on; None without an end.
    """

    _planned_steps: int | None = None
    _missed: list[float | None] | None = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the metrics that the schedules monitor."""
        checkpoint["planned_steps"] = self._planned_steps
        checkpoint["plateau_metrics"] = [
            _monitored(trainer, schedule) for schedule in trainer.lr_scheduler_configs
        ]

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note the metrics of a step that is still to be made."""
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if epochs["processed"] > epochs["completed"]:
            self._missed = checkpoint.get("plateau_metrics")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make that step."""
        steps = trainer.estimated_stepping_batches
        self._planned_steps = int(steps) if math.isfinite(steps) else None
        missed, self._missed = self._missed, None
        for schedule, metric in zip(trainer.lr_scheduler_configs, missed or [], strict=False):
            # A callback such as SWA may have stopped the schedule by its frequency.
            is_due = trainer.current_epoch % schedule.frequency == 0
            if metric is not None and schedule.interval == "epoch" and is_due:
                schedule.scheduler.step(metric)


def _monitored(trainer: Trainer, schedule: LRSchedulerConfig) -> float | None:
    """The value that a plateau schedule monitors; None for another schedule or without a value."""
    value = trainer.callback_metrics.get(schedule.monitor or "")
    return float(value) if schedule.reduce_on_plateau and value is not None else None
