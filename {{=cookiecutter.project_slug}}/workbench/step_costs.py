"""Removes what Lightning 2.6 does in every step without effect, a tenth of a small network's epoch.

It calls every hook of every callback, although most are empty. And on a machine without GPUs it
makes each step of an optimizer look for NVIDIA's driver on the disk.
"""

import os
from functools import cache
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.trainer import call

# Lightning sets it when it is imported: torch then counts GPUs in a way that processes which are
# forked later survive, and that takes 50 microseconds. Without GPUs nothing has to survive.
COUNT_WITHOUT_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"


def reduce_step_costs() -> None:
    """Remove them from this process."""
    call._call_callback_hooks = call_own_hooks
    if not torch.cuda.is_available():
        os.environ.pop(COUNT_WITHOUT_CUDA, None)
        # torch remembers the number only where there are some, and Lightning asks for it often.
        torch.cuda._cached_device_count = 0


def call_own_hooks(
    trainer: Trainer,
    hook_name: str,
    *args: Any,
    monitoring_callbacks: bool | None = None,
    **kwargs: Any,
) -> None:
    """Call a hook of all callbacks that have one.

    Args:
        trainer: with the callbacks, in their order.
        hook_name: for example `on_train_batch_end`.
        args: of the hook, after the trainer and the model.
        monitoring_callbacks: True for those that stop or save, False for all others.
        kwargs: of the hook.
    """
    model = trainer.lightning_module
    before = None if model is None else model._current_fx_name
    # Not a list of those that have it: a callback may add another one.
    for callback in trainer.callbacks:
        if not has_own(callback, hook_name):
            continue
        is_monitoring = isinstance(callback, EarlyStopping | Checkpoint)
        if monitoring_callbacks not in (None, is_monitoring):
            continue
        if model is not None:
            # What `self.log` needs to know.
            model._current_fx_name = hook_name
        with trainer.profiler.profile(f"[Callback]{callback.state_key}.{hook_name}"):
            getattr(callback, hook_name)(trainer, model, *args, **kwargs)
    if model is not None and model._current_fx_name != before:
        model._current_fx_name = before


def has_own(callback: Callback, hook_name: str) -> bool:
    """Whether a hook is not the empty one of `Callback`."""
    is_overridden = _overrides(type(callback), hook_name)  # type: ignore[arg-type]
    return is_overridden or hook_name in vars(callback)


@cache
def _overrides(callback_class: type[Callback], hook_name: str) -> bool:
    return getattr(callback_class, hook_name) is not getattr(Callback, hook_name)
