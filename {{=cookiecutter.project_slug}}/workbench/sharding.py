"""What does not work while the weights are divided among several processes (FSDP)."""

import logging

from pytorch_lightning import Trainer
from pytorch_lightning.strategies import FSDPStrategy, ModelParallelStrategy

from .callbacks import GradientNorms, Histograms, WeightAverage
from .errors import UserError

log = logging.getLogger(__name__)

# Callbacks that need all weights or gradients, by what to leave out of the command.
NEED_ALL = {
    WeightAverage: "callbacks.swa and callbacks.ema",
    Histograms: "callbacks.histograms",
}


def is_sharded(trainer: Trainer) -> bool:
    """Whether each process of a trainer has only a part of the weights."""
    return isinstance(trainer.strategy, FSDPStrategy | ModelParallelStrategy)


def check_sharding(trainer: Trainer, has_finders: bool) -> None:
    """Reject what does not work with divided weights, and leave out the norms of gradients.

    Args:
        trainer: the run's.
        has_finders: whether options are determined before the training.

    Raises:
        UserError: a callback, a finder or an option needs all weights or gradients.
    """
    if not is_sharded(trainer):
        return
    others = [callback for callback in trainer.callbacks if not isinstance(callback, GradientNorms)]
    if len(others) < len(trainer.callbacks):
        log.info("each process has only a part of the gradients, so their norms are not logged")
        trainer.callbacks = others
    start = "Each process has only a part of the weights with trainer=fsdp, so"
    remedy = "or use trainer=ddp."
    for kind, option in NEED_ALL.items():
        found = [
            type(callback).__name__ for callback in trainer.callbacks if isinstance(callback, kind)
        ]
        if found:
            raise UserError(f"{start} {found[0]} cannot see them: leave out {option}, {remedy}")
    if has_finders:
        raise UserError(
            f"{start} finders cannot restore them after their trials: set finders=none, {remedy}"
        )
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm in (None, "norm"):
        raise UserError(
            f"{start} the norm of the gradients is not known: set trainer.gradient_clip_val=null, "
            f"add +trainer.gradient_clip_algorithm=value, {remedy}"
        )
    if trainer.accumulate_grad_batches > 1:
        raise UserError(
            f"{start} a checkpoint cannot hold accumulated gradients: set "
            f"trainer.accumulate_grad_batches=1, {remedy}"
        )
