"""Stop at the first loss that is not a number."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from ..errors import UserError


class NaNGuard(Callback):
    """Ends the run at a loss that is NaN or infinite, naming step, batch and learning rate.

    On a GPU the loss stays on the device and is looked at every `trainer.log_every_n_steps`
    steps, because looking waits for the device; the step named is still the first bad one.
    """

    def __init__(self) -> None:
        self._first_bad: Tensor | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note a bad loss, and end the run when one was noted.

        Raises:
            UserError: the loss is NaN or infinite.
        """
        loss: Tensor = outputs["loss"].detach()
        if self._first_bad is None:
            self._first_bad = torch.full((), -1, device=loss.device)
        is_first = ~torch.isfinite(loss) & (self._first_bad < 0)
        self._first_bad = torch.where(is_first, batch_idx, self._first_bad)
        due = trainer.is_last_batch or (batch_idx + 1) % trainer.log_every_n_steps == 0
        if loss.device.type == "cpu" or due:
            self._raise_if_bad(trainer)

    def _raise_if_bad(self, trainer: Trainer) -> None:
        bad = int(self._first_bad) if self._first_bad is not None else -1
        if bad < 0:
            return
        self._first_bad = None
        lr = trainer.optimizers[0].param_groups[0]["lr"]
        step = trainer.current_epoch * int(trainer.num_training_batches) + bad
        raise UserError(
            f"The training loss became NaN or infinite at batch {bad} of epoch "
            f"{trainer.current_epoch} (batch {step} of the run, learning rate {lr:.3g}): lower "
            "optimizer.lr, set trainer.gradient_clip_val=1, or find the operation with debug=nan."
        )
