"""Norms of the gradients, a warning when they vanish or explode, and histograms."""

import logging
import math
from itertools import islice
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from ..loggers.base import RunLogger, log_metrics, run_loggers

log = logging.getLogger(__name__)

Layers = dict[str, list[Parameter]]
# Number of layers that a warning names.
NAMED = 3
ADVICE = {
    "explode": "lower the learning rate, or clip them with trainer.gradient_clip_val=1",
    "vanish": "these layers do not learn; units may be dead, or the loss may not depend on them",
}


def trained_layers(pl_module: LightningModule, parameters: list[Parameter]) -> Layers:
    """The layers that have any of these parameters, each with its own."""
    trained = {id(parameter) for parameter in parameters}
    layers = {
        name: [p for p in module.parameters(recurse=False) if id(p) in trained]
        for name, module in pl_module.named_modules()
    }
    return {name: own for name, own in layers.items() if own}


def layer_gradients(layers: Layers) -> dict[str, list[Tensor]]:
    """The gradients of each layer.

    Parameters without a gradient are omitted: frozen ones, and those the loss does not depend on.
    """
    gradients = {
        name: [_dense(p.grad) for p in parameters if p.grad is not None]
        for name, parameters in layers.items()
    }
    return {name: values for name, values in gradients.items() if values}


def _dense(gradient: Tensor) -> Tensor:
    """The values of a sparse gradient, such as an embedding's; others unchanged."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def layer_norms(layers: dict[str, list[Tensor]]) -> dict[str, float]:
    """The norm of each layer's gradients, copied from the device in one transfer."""
    gradients = [gradient for layer in layers.values() for gradient in layer]
    norms = iter(torch.stack([torch.linalg.vector_norm(g) for g in gradients]).tolist())
    return {
        name: math.sqrt(sum(norm**2 for norm in islice(norms, len(layer))))
        for name, layer in layers.items()
    }


def clipped_norm(
    gradients: list[Tensor], norm: float, clip_val: float, algorithm: str | None
) -> float:
    """The norm of `gradients` after Lightning has clipped them.

    It is computed because no callback hook runs between clipping and the optimizer's step, and some
    optimizers change the gradients in that step.

    Args:
        gradients: before clipping.
        norm: their total norm.
        clip_val: `trainer.gradient_clip_val`.
        algorithm: `trainer.gradient_clip_algorithm`, "value" or "norm"; None means "norm".
    """
    if algorithm == "value":
        return get_total_norm([g.clamp(-clip_val, clip_val) for g in gradients]).item()
    # 1e-6 as in torch.nn.utils.clip_grad_norm_.
    return norm * min(1.0, clip_val / (norm + 1e-6))


class GradientNorms(Callback):
    """Logs norms of the gradients and warns when those of a layer vanish or explode.

    `grad/norm` is the norm of all gradients together and `grad/norm_clipped` its value after
    clipping, every `trainer.log_every_n_steps` steps; `grad_layers/<layer>` is each layer's norm
    before clipping, at the last step of an epoch. With several optimizers the first two names end
    in the optimizer's number.

    Args:
        vanishing: norm of a layer below which it warns.
        exploding: norm of a layer above which it warns.
    """

    def __init__(self, vanishing: float = 1e-7, exploding: float = 1e3) -> None:
        self.vanishing = vanishing
        self.exploding = exploding
        self._warned: set[tuple[str, str]] = set()
        # By the number of the optimizer: its parameters, and the layers that have them.
        self._trained: dict[int, tuple[list[Parameter], Layers]] = {}

    @rank_zero_only
    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Measure every n-th step and the last step of the epoch."""
        step, every = trainer.global_step, trainer.log_every_n_steps
        # Lightning counts a step for each optimizer; all of them are due in the same batch.
        due = bool(every) and (step // len(trainer.optimizers) + 1) % every == 0
        if not (due or trainer.is_last_batch):
            return
        number = trainer.optimizers.index(optimizer) if len(trainer.optimizers) > 1 else 0
        layers = layer_gradients(self._layers_of(pl_module, optimizer, number))
        if not layers:
            return  # for example an optimizer that is toggled off
        metrics = self._total(trainer, number, layers) if due else {}
        if trainer.is_last_batch or not max(metrics.values()) <= self.exploding:
            norms = layer_norms(layers)
            # With 16-mixed the loss scale is found by trial: steps that overflow are skipped.
            if trainer.precision == "16-mixed":
                norms = {name: norm for name, norm in norms.items() if math.isfinite(norm)}
            self._warn(trainer.current_epoch + 1, norms)
            if trainer.is_last_batch:
                metrics |= {f"grad_layers/{name}": norm for name, norm in norms.items()}
        log_metrics(trainer, metrics, step + 1)

    def _layers_of(self, pl_module: LightningModule, optimizer: Optimizer, number: int) -> Layers:
        """The layers that an optimizer trains; finding them takes longer than the norms."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        known, layers = self._trained.get(number, ([], {}))
        # Layers may be unfrozen during the training. Not by ==, which would compare the values.
        if list(map(id, parameters)) != list(map(id, known)):
            layers = trained_layers(pl_module, parameters)
            self._trained[number] = parameters, layers
        return layers

    def _total(
        self, trainer: Trainer, number: int, layers: dict[str, list[Tensor]]
    ) -> dict[str, float]:
        gradients = [g for layer in layers.values() for g in layer]
        norm = get_total_norm(gradients).item()
        end = "" if len(trainer.optimizers) == 1 else f"_{number}"
        metrics = {f"grad/norm{end}": norm}
        if trainer.gradient_clip_val:
            metrics[f"grad/norm_clipped{end}"] = clipped_norm(
                gradients, norm, trainer.gradient_clip_val, trainer.gradient_clip_algorithm
            )
        return metrics

    def _warn(self, epoch: int, norms: dict[str, float]) -> None:
        layers = sorted(norms, key=lambda name: norms[name])
        # "Not smaller" instead of "larger": NaN counts too.
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


class Histograms(Callback):
    """Logs a histogram of every parameter and its gradient at the last step of an epoch.

    The gradients are those that the optimizer received, after clipping. Only TensorBoard shows
    histograms over time; without it nothing is logged.

    Args:
        every_n_epochs: number of epochs between two histograms.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn if no logger shows histograms."""
        if not (_histogram_loggers(trainer) or trainer.fast_dev_run):
            log.warning("callbacks.histograms needs TensorBoard: add logger=tensorboard")

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Log them after the last batch; the validation that follows discards the gradients."""
        if not trainer.is_last_batch or (trainer.current_epoch + 1) % self.every_n_epochs:
            return
        loggers = _histogram_loggers(trainer)
        for name, parameter in pl_module.named_parameters() if loggers else ():
            for kind, values in (("parameters", parameter.detach()), ("gradients", parameter.grad)):
                # A histogram cannot show NaN; NaNGuard and GradientNorms report it.
                if values is not None and torch.isfinite(values).all():
                    for logger in loggers:
                        logger.show_histogram(f"{kind}/{name}", values.float(), trainer.global_step)


def _histogram_loggers(trainer: Trainer) -> list[RunLogger]:
    return [logger for logger in run_loggers(trainer) if logger.shows_histograms]
