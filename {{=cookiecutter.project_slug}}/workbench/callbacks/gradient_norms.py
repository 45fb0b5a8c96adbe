"""How large the gradients are, and a warning when they vanish or explode."""

import logging
import math

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

log = logging.getLogger(__name__)

# As many layers as a warning names.
NAMED = 3
ADVICE = {
    "explode": "lower the learning rate, or clip them with trainer.gradient_clip_val=1",
    "vanish": "these layers do not learn; units may be dead, or the loss may not depend on them",
}


def layer_gradients(pl_module: LightningModule, optimizer: Optimizer) -> dict[str, list[Tensor]]:
    """The gradients of each layer that `optimizer` trains.

    Parameters without a gradient are left out: frozen ones, and those the loss did not reach.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    layers = {}
    for name, module in pl_module.named_modules():
        own = [p for p in module.parameters(recurse=False) if id(p) in trained]
        gradients = [_dense(p.grad) for p in own if p.grad is not None]
        if gradients:
            layers[name] = gradients
    return layers


def _dense(gradient: Tensor) -> Tensor:
    """The entries of a sparse gradient, as of an embedding; others as they are."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def layer_norms(layers: dict[str, list[Tensor]]) -> dict[str, float]:
    """The norm of each layer's gradients, read from the device at once."""
    norms = torch.stack([get_total_norm(gradients) for gradients in layers.values()]).tolist()
    return dict(zip(layers, norms, strict=True))


def clipped_norm(
    gradients: list[Tensor], norm: float, clip_val: float, algorithm: str | None
) -> float:
    """The norm that `gradients` have after Lightning has clipped them.

    Computed, because no hook of a callback runs between clipping and the optimizer's step, and
    after the step some optimizers have changed the gradients.

    Args:
        gradients: before clipping.
        norm: their total norm.
        clip_val: `trainer.gradient_clip_val`.
        algorithm: `trainer.gradient_clip_algorithm`, "value" or "norm"; None means "norm".
    """
    if algorithm == "value":
        return get_total_norm([g.clamp(-clip_val, clip_val) for g in gradients]).item()
    # The small number is the one in torch.nn.utils.clip_grad_norm_.
    return norm * min(1.0, clip_val / (norm + 1e-6))


class GradientNorms(Callback):
    """Sends norms of the gradients to the loggers and warns when a layer's vanish or explode.

    `grad/norm` is the norm of all gradients together and `grad/norm_clipped` what clipping leaves
    of it, every `trainer.log_every_n_steps` steps; `grad_layers/<layer>` is each layer's norm
    before clipping, at the last step of an epoch. With several optimizers the first two names end
    in the optimizer's number.

    It talks to the loggers directly: `self.log` at every step costs half a fit of a small network.

    Args:
        vanishing: a layer with a smaller norm is warned of.
        exploding: a layer with a larger norm is warned of.
    """

    def __init__(self, vanishing: float = 1e-7, exploding: float = 1e3) -> None:
        self.vanishing = vanishing
        self.exploding = exploding
        self._warned: set[tuple[str, str]] = set()

    @rank_zero_only
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure, if this step is one of every n or the last of the epoch."""
        step, every = trainer.global_step, trainer.log_every_n_steps
        # Several optimizers each count a step; all of them are due in the same batch.
        due = bool(every) and (step // len(trainer.optimizers) + 1) % every == 0
        if not (due or trainer.is_last_batch):
            return
        layers = layer_gradients(pl_module, optimizer)
        if not layers:
            return  # an optimizer that is toggled off, for example
        metrics = self._total(trainer, optimizer, layers) if due else {}
        if trainer.is_last_batch or not max(metrics.values()) <= self.exploding:
            norms = layer_norms(layers)
            # With 16-mixed the loss scale is found by trying: steps that overflow are left out.
            if trainer.precision == "16-mixed":
                norms = {name: norm for name, norm in norms.items() if math.isfinite(norm)}
            self._warn(trainer.current_epoch + 1, norms)
            if trainer.is_last_batch:
                metrics |= {f"grad_layers/{name}": norm for name, norm in norms.items()}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=step + 1)

    def _total(
        self, trainer: Trainer, optimizer: Optimizer, layers: dict[str, list[Tensor]]
    ) -> dict[str, float]:
        gradients = [g for layer in layers.values() for g in layer]
        norm = get_total_norm(gradients).item()
        end = "" if len(trainer.optimizers) == 1 else f"_{trainer.optimizers.index(optimizer)}"
        metrics = {f"grad/norm{end}": norm}
        if trainer.gradient_clip_val:
            metrics[f"grad/norm_clipped{end}"] = clipped_norm(
                gradients, norm, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )
        return metrics

    def _warn(self, epoch: int, norms: dict[str, float]) -> None:
        layers = sorted(norms, key=lambda name: norms[name])
        # Not smaller rather than larger: NaN counts too.
        exploding = [name for name in reversed(layers) if not norms[name] <= self.exploding]
        vanishing = [name for name in layers if norms[name] < self.vanishing]
        for what, found in (("explode", exploding), ("vanish", vanishing)):
            new = [name for name in found if (what, name) not in self._warned]
            self._warned.update((what, name) for name in new)
            if new:
                named = ", ".join(f"{name} (norm {norms[name]:.1e})" for name in new[:NAMED])
                more = f" and {len(new) - NAMED} more layers" if len(new) > NAMED else ""
                log.warning(
                    "gradients %s in %s%s in epoch %d: %s", what, named, more, epoch, ADVICE[what]
                )
