"""Stop at the first loss that is not finite."""

import inspect
import math
from contextlib import suppress
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ..data.batches import tensors
from ..errors import NotFiniteError
from .records import learning_rates

NONE = -1  # no batch
ADVICE = "lower the learning rate, set trainer.gradient_clip_val=1"
# In float16 the eps of Adam and the squares of small gradients are zero, and 0 / 0 is NaN.
ADVICE_FOR_FLOAT16 = "use trainer.precision=16-mixed or bf16-true, which keep small numbers"


class NaNGuard(Callback):
    """Ends the run at a loss that is NaN or infinite, naming step, learning rate and module.

    It checks before the backward pass, when the weights are still those that produced the loss:
    repeating the training step then finds the first module with a non-finite output.

    On a GPU the loss is checked every `trainer.log_every_n_steps` steps, because reading it
    synchronizes with the device. The step named is still the first bad one; the module is named
    only if that is the step checked: in later ones all weights are NaN.
    """

    def __init__(self) -> None:
        self._batch: Any = None
        self._batch_idx = 0
        self._first_bad: Tensor | None = None

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, to repeat the step."""
        self._batch, self._batch_idx = batch, batch_idx

    def on_before_backward(
        self, trainer: Trainer, pl_module: LightningModule, loss: Tensor
    ) -> None:
        """End the run at a bad loss; on a GPU remember it until the next check.

        Raises:
            NotFiniteError: the loss is NaN or infinite.
        """
        # With debug=anomaly the backward pass is about to report more about this batch.
        is_traced = torch.is_anomaly_enabled()
        if is_free_to_read(loss) and not is_traced:
            is_number = loss.numel() == 1 and not loss.is_complex()
            if not (math.isfinite(loss.item()) if is_number else torch.isfinite(loss).all()):
                raise self._error(trainer, pl_module, self._batch_idx)
            return
        is_bad = ~torch.isfinite(loss.detach()).all()
        if self._first_bad is None:
            self._first_bad = torch.full((), NONE, device=is_bad.device)
        is_first = is_bad & (self._first_bad == NONE)
        self._first_bad = torch.where(is_first, self._batch_idx, self._first_bad)
        every = trainer.log_every_n_steps
        if trainer.is_last_batch or (every and (self._batch_idx + 1) % every == 0):
            first_bad = int(self._first_bad)
            if first_bad != NONE and not (is_traced and first_bad == self._batch_idx):
                raise self._error(trainer, pl_module, first_bad)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Release the batch."""
        self._batch = None

    def _error(self, trainer: Trainer, pl_module: LightningModule, bad: int) -> NotFiniteError:
        rates = ", ".join(f"{rate:.3g}" for rate in learning_rates(trainer).values())
        step = trainer.fit_loop.total_batch_idx - self._batch_idx + bad
        place = self._place(trainer, pl_module) if bad == self._batch_idx else ""
        advice = ADVICE_FOR_FLOAT16 if trainer.precision == "16-true" else ADVICE
        return NotFiniteError(
            f"The training loss became NaN or infinite at batch {bad} of epoch "
            f"{trainer.current_epoch} (batch {step} of the run, learning rate {rates}){place}: "
            f"{advice}, or find the operation with debug=anomaly."
        )

    def _place(self, trainer: Trainer, pl_module: LightningModule) -> str:
        """Where the current batch first produces a value that is not finite."""
        if has_bad(self._batch):
            return ", and the batch itself contains such values"
        for name, parameter in pl_module.named_parameters():
            if has_bad(parameter):
                return f", after the previous step had produced such values in the parameter {name}"
        # A step that runs its own optimizers must not be nested.
        if not pl_module.automatic_optimization:
            return ""
        # Some steps cannot be repeated.
        with suppress(Exception), torch.no_grad(), trainer.precision_plugin.train_step_context():
            module = first_bad_module(pl_module, self._batch, self._batch_idx)
            return f", first in the output of {module}" if module else ", in the loss function"
        return ""


def is_free_to_read(loss: Tensor) -> bool:
    """Whether reading a value waits for nothing: the CPU has computed it already."""
    return loss.device.type == "cpu"


def first_bad_module(pl_module: LightningModule, batch: Any, batch_idx: int) -> str | None:
    """Run a training step and name the first module whose output is not finite, if any."""
    found: list[str] = []

    def observe(name: str, module: nn.Module) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            if not found and has_bad(output):
                found.append(f"{name} ({type(module).__name__})")

        return module.register_forward_hook(hook)

    handles = [observe(name, module) for name, module in pl_module.named_modules() if name]
    try:
        # Compiled code does not call hooks.
        with torch.compiler.set_stance("force_eager"):
            takes = len(inspect.signature(pl_module.training_step).parameters)
            pl_module.training_step(*(batch, batch_idx)[:takes])
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def has_bad(values: Any) -> bool:
    """Whether a tensor or a nested structure of tensors contains NaN or an infinite value."""
    return any(not torch.isfinite(tensor).all() for tensor in tensors(values))
