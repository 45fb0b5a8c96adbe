"""Gradual unfreezing: a new head is trained first, then the pretrained network from its top."""

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy
from pytorch_lightning.utilities import rank_zero_only

from ..checks import check_integer
from ..errors import UserError
from ..models.parts import Part

log = logging.getLogger(__name__)


class GradualUnfreezing(Callback):
    """Freezes the parts of a model and unfreezes one after the other, beginning at the top.

    Howard and Ruder 2018, https://arxiv.org/abs/1801.06146. The head has random weights at first
    and would send random gradients into the network below it.

    Which parts are trained follows from the number of the epoch alone, so a resumed run needs no
    memory of it, and resumes identically in every phase. Lightning's `BaseFinetuning` adds
    parameter groups while it trains; here the optimizer has all of them from the beginning, and
    skips those without a gradient.

    The model has an attribute `parts`, a list of `Part` from the input to the output without the
    head.

    Args:
        freeze_epochs: number of epochs in which only the head is trained.
        every: number of epochs from one part to the next.

    Raises:
        UserError: a number is not an integer, or too small.
    """

    def __init__(self, freeze_epochs: int = 1, every: int = 1) -> None:
        check_integer("callbacks.unfreezing.freeze_epochs", freeze_epochs, 0)
        check_integer("callbacks.unfreezing.every", every, 1)
        self.freeze_epochs, self.every = freeze_epochs, every
        self._trained: int | None = None

    def trained_parts(self, epoch: int, count: int) -> int:
        """How many of the model's `count` parts are trained in an epoch, counted from 0."""
        if epoch < self.freeze_epochs:
            return 0
        return min(count, 1 + (epoch - self.freeze_epochs) // self.every)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that the model has parts, and that nothing prevents freezing them."""
        if stage == "fit":
            self._trained = None
            self.check(trainer, pl_module)

    def check(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reject what prevents freezing, before other processes are started.

        Raises:
            UserError: the model has no parts or is compiled, or the strategy needs all gradients.
        """
        parts_of(pl_module)
        if any(module._compiled_call_impl is not None for module in pl_module.modules()):
            raise UserError(
                "callbacks.unfreezing changes what is trained, and compile=true would compile the "
                "network anew in every phase: set compile=false, or callbacks.unfreezing=null to "
                "train everything from the start."
            )
        strategy = trainer.strategy
        if isinstance(strategy, SingleDeviceStrategy):
            return
        # Processes that wait for the gradients of frozen parts would wait for ever.
        if not (
            isinstance(strategy, DDPStrategy) and strategy._ddp_kwargs.get("find_unused_parameters")
        ):
            raise UserError(
                "callbacks.unfreezing on several devices needs "
                "trainer.strategy=ddp_find_unused_parameters_true, because frozen parts have no "
                "gradients to exchange."
            )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the plan and freeze the parts.

        Not earlier: processes exchange the gradients only of parameters that are trained when their
        optimizers are set up.
        """
        # Lightning warns of modules in evaluation mode, which is what freezing them means.
        warnings.filterwarnings("ignore", message=".*in eval mode at the start of training")
        parts = parts_of(pl_module)
        if trainer.is_global_zero:
            log.info("%s", self.plan(parts, trainer.max_epochs))
        self._apply(parts, trainer.current_epoch)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze what was frozen when a resumed run was interrupted; it may be within an epoch."""
        self._enter(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Unfreeze a part that is due."""
        self._enter(trainer, pl_module)

    def _enter(self, trainer: Trainer, pl_module: LightningModule) -> None:
        parts = parts_of(pl_module)
        trained = self._apply(parts, trainer.current_epoch)
        if trained != self._trained:
            self._trained = trained
            self._report(trainer.current_epoch, parts[len(parts) - trained :])

    def _apply(self, parts: Sequence[Part], epoch: int) -> int:
        trained = self.trained_parts(epoch, len(parts))
        for number, part in enumerate(parts):
            part.set_trained(number >= len(parts) - trained)
        return trained

    @rank_zero_only
    def _report(self, epoch: int, trained: Sequence[Part]) -> None:
        names = ", ".join(["the head", *(str(part) for part in reversed(trained))])
        log.info("epoch %d trains %s", epoch + 1, names)

    def plan(self, parts: Sequence[Part], max_epochs: int | None) -> str:
        """What is frozen, and when it is unfrozen, in one sentence."""
        last = None if max_epochs in (None, -1) else max_epochs
        starts = [self.freeze_epochs + self.every * i for i in range(len(parts))]
        texts = [
            f"{part} {'never' if last is not None and start >= last else f'in epoch {start + 1}'}"
            for part, start in zip(reversed(parts), starts, strict=True)
        ]
        return f"the head is trained from the first epoch, unfrozen are {', '.join(texts)}"


def parts_of(pl_module: Any) -> list[Part]:
    """The parts of a model.

    Raises:
        UserError: it has none.
    """
    parts = getattr(pl_module, "parts", None)
    if not (isinstance(parts, list) and parts and all(isinstance(part, Part) for part in parts)):
        raise UserError(
            f"callbacks.unfreezing needs a model with parts, and {type(pl_module).__name__} has "
            "none: choose model=finetune, or set callbacks.unfreezing=null."
        )
    return parts
