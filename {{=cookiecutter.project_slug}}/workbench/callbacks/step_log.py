"""Loss and learning rate of single steps, for the loggers."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

LOSS = "train/loss_step"


class StepLog(Callback):
    """Sends `train/loss_step` and `lr` to the loggers every `trainer.log_every_n_steps` steps.

    With several optimizers `lr` ends in the optimizer's number. The loss is what `training_step`
    returned, if it returned one.

    The loggers are called directly: `self.log` at every step costs about half of a fit of a small
    network, this costs nothing between two entries.
    """

    def __init__(self) -> None:
        self._last_step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log this step if it is one of every n."""
        # With several optimizers Lightning counts a step for each.
        step = trainer.global_step // max(len(trainer.optimizers), 1)
        # With gradient accumulation several batches share one step.
        every = trainer.log_every_n_steps
        if step == self._last_step or not every or step % every:
            return
        self._last_step = step
        metrics = learning_rates(trainer)
        loss = loss_of(outputs)
        # A model with `self.log("train/loss", loss, on_step=True, on_epoch=True)` logs it itself.
        if loss is not None and LOSS not in trainer.callback_metrics:
            # Lightning divides the loss by the number of batches of a step, and only if it makes
            # the step itself.
            batches = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            metrics[LOSS] = loss.item() * batches
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=trainer.global_step)


def learning_rates(trainer: Trainer) -> dict[str, float]:
    """The rate of each optimizer's first parameter group."""
    rates = [float(optimizer.param_groups[0]["lr"]) for optimizer in trainer.optimizers]
    if len(rates) == 1:
        return {"lr": rates[0]}
    return {f"lr_{number}": rate for number, rate in enumerate(rates)}


def loss_of(outputs: Any) -> Tensor | None:
    """The loss that a training step returned; None if it returned none.

    Args:
        outputs: a tensor, or a dictionary with the key `loss`, or anything else.
    """
    loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
    return loss if isinstance(loss, Tensor) and loss.numel() == 1 else None
