"""The base of callbacks that read a finished epoch's metrics."""

from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from .fresh_metrics import FreshMetrics


class EpochEndCallback(FreshMetrics, Checkpoint):
    """A callback whose `on_train_epoch_end` sees everything the model logged in the epoch.

    Lightning runs this hook of most callbacks before the model's own, where the training metrics
    are logged; of the children of `Checkpoint` it runs it after. They also come before the
    checkpoints that are listed after them, so what they remember of the epoch is saved with it.
    """

    def epoch_metrics(self, trainer: Trainer) -> dict[str, float]:
        """The metrics that were measured in this epoch, as floats."""
        return {name: float(value) for name, value in self.measured_in_epoch(trainer).items()}
