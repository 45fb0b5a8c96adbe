"""What a resumed run needs beside what Lightning restores, so that its result is identical."""

import logging
import math
import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.types import LRSchedulerConfig
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from ..errors import UserError
from ..loggers.base import run_loggers
from .hooks import FreshMetrics
from .seeds import continue_loaders, loader_states

log = logging.getLogger(__name__)

STATE = "within_epoch"


class ContinuedLogs(Callback):
    """Removes what an interrupted run logged after the checkpoint from which it is resumed.

    Those steps are trained again, and their points would otherwise appear twice in TensorBoard
    and in `metrics.csv`. A run that is resumed in another directory has nothing to remove.
    """

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the loggers from which step the run resumes."""
        if trainer.global_step > 0:
            for logger in run_loggers(trainer):
                logger.forget_after(trainer.global_step)


class ScheduleState(Callback):
    """Performs the step of a plateau schedule that a resumed run would miss.

    Lightning saves at the end of an epoch before that step, and after a resume no longer has the
    metric for it. The checkpoint also gets `planned_steps`, the number of optimizer steps of the
    whole training, on which a schedule may depend; None for a training without an end.
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
        """Keep the metrics of a step that is still due."""
        epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
        if epochs["processed"] > epochs["completed"]:
            self._missed = checkpoint.get("plateau_metrics")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Perform that step."""
        steps = trainer.estimated_stepping_batches
        self._planned_steps = int(steps) if math.isfinite(steps) else None
        missed, self._missed = self._missed, None
        for schedule, metric in zip(trainer.lr_scheduler_configs, missed or [], strict=False):
            # A callback such as SWA may have stopped the schedule by its frequency.
            is_due = trainer.current_epoch % schedule.frequency == 0
            if metric is not None and schedule.interval == "epoch" and is_due:
                schedule.scheduler.step(metric)


def _monitored(trainer: Trainer, schedule: LRSchedulerConfig) -> float | None:
    """The value that a plateau schedule monitors; None for other schedules or without a value."""
    value = trainer.callback_metrics.get(schedule.monitor or "")
    return float(value) if schedule.reduce_on_plateau and value is not None else None


class WithinEpoch(FreshMetrics):
    """Saves and restores the state within an epoch, so that a resumed run is identical.

    That is: the position in the training loader, the random number generators, the metrics
    accumulated so far, by torchmetrics or by `self.log`, those measured so far, and gradients that
    wait for their step.

    It runs after all callbacks except the checkpoints: none draws random numbers between their
    restoration and the next batch.
    """

    _state: dict[str, Any] | None = None
    _logged: dict[str, dict[str, Tensor]] = {}  # noqa: RUF012 - never changed in place
    _is_validating = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember that a validation is in progress."""
        super().on_validation_start(trainer, pl_module)
        self._is_validating = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Return to the training."""
        self._is_validating = False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Add what `self.log` had accumulated before the resume, now that the names exist again."""
        logged, self._logged = self._logged, {}
        for name, metric in _logged_per_epoch(trainer).items():
            is_sum = metric.meta.is_mean_reduction or metric.meta.is_sum_reduction
            for key, value in logged.get(name, {}).items():
                now, before = getattr(metric, key), value.to(metric.device)
                total = before + now if is_sum else metric.meta.reduce_fx(before, now)
                setattr(metric, key, total)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state within the epoch, if there is one."""
        fit_loop = checkpoint["loops"]["fit_loop"]
        # Lightning saves only the loaders of the first process, and with `max_steps` would load
        # those of a finished epoch into the next one.
        fit_loop["state_dict"].pop("combined_loader", None)
        batches = trainer.fit_loop.epoch_loop.batch_progress.current
        is_between_batches = batches.ready == batches.processed and not self._is_validating
        if not (is_in_progress(checkpoint) and is_between_batches):
            return
        checkpoint[STATE] = {
            "batches": trainer.num_training_batches,
            "processes": _gathered(trainer, _state_of_process(trainer, pl_module)),
            "summed": _metric_states(trainer, pl_module),
            "measured": {
                name: value.detach().cpu().clone()
                for name, value in self.measured_in_epoch(trainer).items()
            },
            "gradients": _waiting_gradients(trainer, pl_module),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the state until everything is set up."""
        self._state = checkpoint.get(STATE)
        if self._state is None and is_in_progress(checkpoint):
            log.warning(
                "the checkpoint was saved in the middle of a batch or a validation: the remaining "
                "batches of the epoch are drawn again"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state.

        Raises:
            UserError: the number of batches per epoch has changed.
        """
        _begin_next_epoch(trainer)
        state, self._state = self._state, None
        if state is None:
            return
        check_same_batches(state, trainer.num_training_batches)
        # Lightning would skip the plateau schedule's step at the end of a resumed epoch, because it
        # does not save the metric.
        trainer.fit_loop._restarting = False
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        known = f" of {state['batches']}" if math.isfinite(state["batches"]) else ""
        place = f"epoch {trainer.current_epoch + 1}, after {done}{known} batches"
        own = _own(state["processes"], trainer)
        if own is not None and continue_loaders(trainer, own["loaders"], done):
            log.info("resumed within %s", place)
        else:
            log.warning(
                "resumed within %s; the training loader cannot continue there, so the remaining "
                "batches are drawn again and some samples may be used twice or not at all in this "
                "epoch: use a DataLoader, or give the loader state_dict() and load_state_dict()",
                place,
            )
        if trainer.is_global_zero:
            _restore_metrics(pl_module, state["summed"])
        trainer.callback_metrics.update(state["measured"])
        parameters = dict(pl_module.named_parameters())
        for name, gradient in state["gradients"].items():
            parameters[name].grad = gradient.to(parameters[name].device)
        if own is not None:
            self._logged = own["logged"]
            _restore_random(own["random"], pl_module.device)


def _begin_next_epoch(trainer: Trainer) -> None:
    """Make Lightning start a new epoch after a finished one, also with `max_steps`.

    It would otherwise end the finished epoch a second time and skip the next one.
    """
    loop = trainer.fit_loop
    if loop.restarted_on_epoch_end:
        loop.epoch_progress.increment_completed()
        loop.epoch_loop.restarting = False
        loop._restarting = False
        loop.reset_restart_stage()


def is_in_progress(checkpoint: dict[str, Any]) -> bool:
    """Whether a checkpoint was saved within an epoch."""
    epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]
    return bool(epochs["started"] > epochs["processed"])


def check_same_batches(state: dict[str, Any], batches: float) -> None:
    """Reject a checkpoint saved within an epoch that had a different number of batches.

    Raises:
        UserError: the numbers differ.
    """
    if state["batches"] != batches:
        raise UserError(
            f"The checkpoint was saved within an epoch of {state['batches']} batches, and here an "
            f"epoch has {batches}: use the data and trainer.devices of the first run, or "
            "weights_from=... to start a new training from its weights."
        )


def _state_of_process(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    return {
        "random": _random_state(pl_module.device),
        "loaders": loader_states(trainer),
        "logged": {
            name: {key: value.cpu().clone() for key, value in metric.metric_state.items()}
            for name, metric in _logged_per_epoch(trainer).items()
        },
    }


def _logged_per_epoch(trainer: Trainer) -> dict[str, Any]:
    """What Lightning accumulates for `self.log(..., on_epoch=True)` in training steps."""
    results = trainer.fit_loop.epoch_loop._results
    return {
        name: metric
        for name, metric in results.items()
        if metric.is_tensor and metric.meta.on_epoch and metric.update_called
    }


def _gathered(trainer: Trainer, value: dict[str, Any]) -> list[dict[str, Any]]:
    """The values of all processes, ordered by rank."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _own(processes: list[dict[str, Any]], trainer: Trainer) -> dict[str, Any] | None:
    return processes[trainer.global_rank] if len(processes) == trainer.world_size else None


def _random_state(device: torch.device) -> dict[str, Any]:
    """The states of all random number generators, as plain values and tensors."""
    generator: Any = np.random.get_state(legacy=False)
    state = {
        "python": random.getstate(),
        "numpy": generator | {"state": _plain(generator["state"])},
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {"key": state["key"].tolist(), "pos": int(state["pos"])}


def _restore_random(state: dict[str, Any], device: torch.device) -> None:
    random.setstate(state["python"])
    numpy = dict(state["numpy"])
    numpy["state"] = numpy["state"] | {"key": np.array(numpy["state"]["key"], dtype=np.uint32)}
    np.random.set_state(numpy)
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _metric_states(trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
    """What the torchmetrics of a model have accumulated in all processes together."""
    # Lightning resets those of a validation only after the callbacks have saved its checkpoint.
    results = trainer.fit_loop.epoch_loop.val_loop._results.values()
    validated = {id(m) for each in results if not each.is_tensor for m in each.value.modules()}
    for module in pl_module.modules():
        if isinstance(module, MetricCollection):
            # Metrics of a compute group share their states; `values()` gives each its own copy.
            list(module.values())
    states = {}
    for name, metric in pl_module.named_modules():
        if isinstance(metric, Metric) and metric.update_called and id(metric) not in validated:
            with metric.sync_context():
                values = {key: _copied(value) for key, value in metric.metric_state.items()}
            states[name] = {"values": values, "updates": metric.update_count}
    return states


def _copied(value: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    return [tensor.detach().cpu().clone() for tensor in value]


def _restore_metrics(pl_module: LightningModule, states: dict[str, Any]) -> None:
    modules = dict(pl_module.named_modules())
    for name, state in states.items():
        metric = modules[name]
        assert isinstance(metric, Metric)
        for key, value in state["values"].items():
            on_device = (
                value.to(metric.device)
                if isinstance(value, Tensor)
                else [tensor.to(metric.device) for tensor in value]
            )
            setattr(metric, key, on_device)
        metric._update_count = state["updates"]
        metric._computed = None


def _waiting_gradients(trainer: Trainer, pl_module: LightningModule) -> dict[str, Tensor]:
    """Gradients that are still being accumulated, as the mean over the processes."""
    batches = trainer.fit_loop.batch_idx + 1
    is_step = batches % trainer.accumulate_grad_batches == 0
    if pl_module.automatic_optimization and is_step:
        return {}
    return {
        name: trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean").cpu()
        for name, parameter in pl_module.named_parameters()
        if parameter.grad is not None
    }
