"""Removes what Lightning 2.6 does in every step without effect, a tenth of a small network's epoch.

It calls every hook of every callback, although most are empty. And on a machine without GPUs it
makes each step of an optimizer look for NVIDIA's driver on the disk.
"""

import os
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping
from pytorch_lightning.trainer import call

from .profilers import NoProfiler

# Lightning sets it when it is imported: torch then counts GPUs in a way that processes which are
# forked later survive, and that takes 50 microseconds. Without GPUs nothing has to survive.
COUNT_WITHOUT_CUDA = "PYTORCH_NVML_BASED_CUDA_CHECK"
STAGES = ("train", "validation", "test", "predict")
OF_A_BATCH = {
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_before_zero_grad",
    *(f"on_{stage}_batch_{end}" for stage in STAGES for end in ("start", "end")),
}
OWNERS = "_owners_of_batch_hooks"
MONITORING = (EarlyStopping, Checkpoint)
CURRENT_HOOK = "_current_fx_name"


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
    callbacks = _owners(trainer, hook_name)
    if not callbacks:
        return
    model = trainer.lightning_module
    # `self.log` needs to know the hook. An assignment would look for parameters and modules first.
    attributes = {} if model is None else vars(model)
    before, attributes[CURRENT_HOOK] = attributes.get(CURRENT_HOOK), hook_name
    profiler = None if isinstance(trainer.profiler, NoProfiler) else trainer.profiler
    for callback in callbacks:
        if monitoring_callbacks not in (None, isinstance(callback, MONITORING)):
            continue
        hook = getattr(callback, hook_name)
        if profiler is None:
            # A context, and the callback's key in its name, take as long as a short hook.
            hook(trainer, model, *args, **kwargs)
            continue
        with profiler.profile(f"[Callback]{callback.state_key}.{hook_name}"):
            hook(trainer, model, *args, **kwargs)
    attributes[CURRENT_HOOK] = before


def _owners(trainer: Trainer, hook_name: str) -> Iterable[Callback]:
    """The callbacks that have a hook.

    For the hooks of a batch they are looked up once per epoch and validation: after a step of the
    network, callbacks that have nothing to do are no longer in the processor's cache. Whatever is
    added within a batch is called from the next hook on; a function that is set as an attribute of
    a callback, from the next epoch or validation.
    """
    if hook_name not in OF_A_BATCH:
        vars(trainer).pop(OWNERS, None)
        # One after the other: a callback may add another one.
        return (c for c in trainer.callbacks if has_own(c, hook_name))
    owners = vars(trainer).setdefault(OWNERS, {})
    known, own = owners.get(hook_name, (None, []))
    if known != trainer.callbacks:
        own = [callback for callback in trainer.callbacks if has_own(callback, hook_name)]
        owners[hook_name] = list(trainer.callbacks), own
    return own


def has_own(callback: Callback, hook_name: str) -> bool:
    """Whether a hook is not the empty one of `Callback`."""
    is_overridden = _overrides(type(callback), hook_name)  # type: ignore[arg-type]
    return is_overridden or hook_name in vars(callback)


@cache
def _overrides(callback_class: type[Callback], hook_name: str) -> bool:
    return getattr(callback_class, hook_name) is not getattr(Callback, hook_name)
