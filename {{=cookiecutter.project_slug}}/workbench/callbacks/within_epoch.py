"""What a checkpoint within an epoch needs beside what Lightning saves."""

import logging
import math
import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from ..errors import UserError
from .fresh_metrics import FreshMetrics
from .loader_seed import continue_loaders, loader_states

log = logging.getLogger(__name__)

STATE = "within_epoch"


class WithinEpoch(FreshMetrics):
    """Saves and restores the state of an epoch in progress, so that a resumed run is identical.

    That is: the position in the training loader, the random numbers, the metrics that have been
    summed so far, by torchmetrics or by `self.log`, those measured so far, and gradients that wait
    for their step.

    It comes after all callbacks but the checkpoints: none draws random numbers between their
    restoration and the next batch.
    """

    _state: dict[str, Any] | None = None
    _logged: dict[str, dict[str, Tensor]] = {}  # noqa: RUF012 - never changed in place
    _is_validating = False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the state is that of a validation."""
        super().on_validation_start(trainer, pl_module)
        self._is_validating = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the state is that of the training again."""
        self._is_validating = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Add what `self.log` had summed before the resume, now that it has names again."""
        logged, self._logged = self._logged, {}
        for name, metric in _logged_per_epoch(trainer).items():
            for part, value in logged.get(name, {}).items():
                now, before = getattr(metric, part), value.to(metric.device)
                is_sum = metric.meta.is_mean_reduction or metric.meta.is_sum_reduction
                setattr(
                    metric, part, before + now if is_sum else metric.meta.reduce_fx(before, now)
                )

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state of the epoch, if it is in progress."""
        fit_loop = checkpoint["loops"]["fit_loop"]
        # Lightning saves the loaders of the first process alone, and with `max_steps` would load
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
                "the checkpoint was saved in the middle of a batch or a validation: the other "
                "batches of the epoch are drawn anew"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the state.

        Raises:
            UserError: the epoch has another number of batches now.
        """
        _begin_next_epoch(trainer)
        state, self._state = self._state, None
        if state is None:
            return
        check_same_batches(state, trainer.num_training_batches)
        # Lightning would leave out the plateau schedule's step at the end of a resumed epoch,
        # because it does not save the metric.
        trainer.fit_loop._restarting = False
        done = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        known = f" of {state['batches']}" if math.isfinite(state["batches"]) else ""
        place = f"epoch {trainer.current_epoch + 1}, after {done}{known} batches"
        own = _own(state["processes"], trainer)
        if own is not None and continue_loaders(trainer, own["loaders"], done):
            log.info("resumed within %s", place)
        else:
            log.warning(
                "resumed within %s; the training loader cannot continue there, so the other "
                "batches are drawn anew and some samples may be used twice or not at all in this "
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
    """Let Lightning begin an epoch after one that was finished, also with `max_steps`.

    It would otherwise end the finished epoch once more and skip the one after it.
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
    """Refuse to continue an epoch that has another number of batches now.

    Raises:
        UserError: the numbers differ.
    """
    if state["batches"] != batches:
        raise UserError(
            f"The checkpoint was saved within an epoch of {state['batches']} batches, and here an "
            f"epoch has {batches}: give the data and trainer.devices of the first run, or "
            "use weights_from=... to start a new training from its weights."
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
    """What Lightning sums over the epoch for `self.log(..., on_epoch=True)` in training steps."""
    results = trainer.fit_loop.epoch_loop._results
    return {
        name: metric
        for name, metric in results.items()
        if metric.is_tensor and metric.meta.on_epoch and metric.update_called
    }


def _gathered(trainer: Trainer, value: dict[str, Any]) -> list[dict[str, Any]]:
    """What all processes have, in the order of their ranks."""
    if trainer.world_size == 1:
        return [value]
    values: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def _own(processes: list[dict[str, Any]], trainer: Trainer) -> dict[str, Any] | None:
    return processes[trainer.global_rank] if len(processes) == trainer.world_size else None


def _random_state(device: torch.device) -> dict[str, Any]:
    """The states of all random number generators, in plain values and tensors."""
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
    """What the torchmetrics of a model have summed, of all processes together."""
    # Lightning resets those of a validation only after the callbacks have saved its checkpoint.
    results = trainer.fit_loop.epoch_loop.val_loop._results.values()
    validated = {id(m) for each in results if not each.is_tensor for m in each.value.modules()}
    for module in pl_module.modules():
        if isinstance(module, MetricCollection):
            # Metrics of a group share their states; asking for the values gives each its own.
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
    """Gradients that are still to be added to, the mean over the processes."""
    batches = trainer.fit_loop.batch_idx + 1
    is_step = batches % trainer.accumulate_grad_batches == 0
    if pl_module.automatic_optimization and is_step:
        return {}
    return {
        name: trainer.strategy.reduce(parameter.grad.clone(), reduce_op="mean").cpu()
        for name, parameter in pl_module.named_parameters()
        if parameter.grad is not None
    }
