"""The base of callbacks that read a finished epoch's metrics."""

from pytorch_lightning import LightningModule, Trainer

from .fresh_metrics import FreshMetrics


class EpochEndCallback(FreshMetrics):
    """A callback whose `on_epoch_measured` sees everything that was logged in an epoch.

    Lightning calls `on_train_epoch_end` of the callbacks before that of the model, which may log
    more. Only children of `EarlyStopping` and `Checkpoint` come later, and one of those would be
    taken for `trainer.checkpoint_callback`. So this hook follows that of the model, and the
    checkpoints, which come after it, hold what the callback remembers of the epoch.
    """

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called at the end of a training epoch, when all metrics are known."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Follow the model's hook."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        before = pl_module.on_train_epoch_end

        def hook() -> None:
            before()
            self.on_epoch_measured(trainer, pl_module)

        pl_module.on_train_epoch_end = hook

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the model with its own hook."""
        super().teardown(trainer, pl_module, stage)
        pl_module.__dict__.pop("on_train_epoch_end", None)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leave the model with its own hook; Lightning calls no `teardown` after an error."""
        pl_module.__dict__.pop("on_train_epoch_end", None)

    def epoch_metrics(self, trainer: Trainer) -> dict[str, float]:
        """The metrics that were measured in this epoch, as floats."""
        return {name: float(value) for name, value in self.measured_in_epoch(trainer).items()}
