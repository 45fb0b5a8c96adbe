"""Loss and learning rate of single steps, for the loggers."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

LOSS = "train/loss_step"


class StepLog(Callback):
    """Sends `train/loss_step` and `lr` to the loggers every `trainer.log_every_n_steps` steps.

    It talks to the loggers directly: `self.log` at every step costs about half of a fit of a
    small network, this costs nothing between two entries.
    """

    def __init__(self) -> None:
        self._last_step = -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log this step if it is one of every n."""
        step = trainer.global_step
        # With gradient accumulation several batches share one step.
        if step == self._last_step or step % trainer.log_every_n_steps:
            return
        self._last_step = step
        metrics = {"lr": trainer.optimizers[0].param_groups[0]["lr"]}
        # A model with `self.log("train/loss", loss, on_step=True, on_epoch=True)` logs it itself.
        if LOSS not in trainer.callback_metrics:
            # Lightning hands on the loss divided by the number of batches of a step.
            metrics[LOSS] = outputs["loss"].item() * trainer.accumulate_grad_batches
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step)
