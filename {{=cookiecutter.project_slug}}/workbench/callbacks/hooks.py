"""The bases of our callbacks: which metrics are new, and hooks that run after the model's own."""

from collections.abc import Callable, Mapping
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor


class FreshMetrics(Callback):
    """A callback that can tell new metrics from old ones.

    `trainer.callback_metrics` keeps a value until the metric is measured again. With
    `trainer.check_val_every_n_epoch=2`, every second epoch would show the validation of the epoch
    before it.
    """

    # A metric that is measured again is another tensor.
    _before_epoch: dict[str, Tensor] = {}  # noqa: RUF012 - never changed in place
    _before_validation: dict[str, Tensor] = {}  # noqa: RUF012

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the values of earlier epochs."""
        self._before_epoch = dict(trainer.callback_metrics)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the values from before this validation."""
        self._before_validation = dict(trainer.callback_metrics)

    def measured_in_epoch(self, trainer: Trainer) -> dict[str, Tensor]:
        """The metrics that were measured since the epoch began."""
        return _changed(trainer.callback_metrics, self._before_epoch)

    def measured_in_validation(self, trainer: Trainer) -> dict[str, Tensor]:
        """The metrics of the validation that has just ended."""
        return _changed(trainer.callback_metrics, self._before_validation)


def _changed(now: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in now.items() if value is not before.get(name)}


class EpochEndCallback(FreshMetrics):
    """A callback whose `on_epoch_measured` sees everything that was logged in an epoch.

    Lightning calls `on_train_epoch_end` of the callbacks before that of the model, which may log
    more. Only subclasses of `EarlyStopping` and `Checkpoint` come later, and one of those would be
    mistaken for `trainer.checkpoint_callback`. So this hook follows the model's, and the
    checkpoints, which come after it, contain what the callback remembers of the epoch.
    """

    def on_epoch_measured(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Called at the end of a training epoch, when all metrics are known."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Attach to the model's hook."""
        super().setup(trainer, pl_module, stage)
        if stage != "fit":
            return
        before = pl_module.on_train_epoch_end

        def hook() -> None:
            before()
            self.on_epoch_measured(trainer, pl_module)

        pl_module.on_train_epoch_end = hook

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Restore the model's own hook."""
        super().teardown(trainer, pl_module, stage)
        pl_module.__dict__.pop("on_train_epoch_end", None)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Restore the model's own hook; Lightning calls no `teardown` after an error."""
        pl_module.__dict__.pop("on_train_epoch_end", None)


def after_module(pl_module: LightningModule, hook: str, action: Callable[[], None]) -> None:
    """Call `action` once, after the next call of the model's hook of this name.

    Lightning calls the hooks of callbacks before the model's. A checkpoint that a callback saves
    in `on_train_batch_end` would lack what the model does there, for example the step of a momentum
    teacher.
    """
    own = getattr(pl_module, hook)

    def once(*args: Any, **kwargs: Any) -> Any:
        pl_module.__dict__.pop(hook, None)
        result = own(*args, **kwargs)
        action()
        return result

    setattr(pl_module, hook, once)


def is_within_epoch(trainer: Trainer) -> bool:
    """Whether the validation that has just ended took place before the end of a training epoch."""
    is_training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
    return is_training and not trainer.is_last_batch


def is_validation_due(trainer: Trainer) -> bool:
    """Whether Lightning validates after the current batch.

    A run resumed from a checkpoint saved before that validation would skip it.
    """
    fetcher = trainer.fit_loop._data_fetcher
    assert fetcher is not None
    return trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)
