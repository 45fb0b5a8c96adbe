"""The learning-rate range test: a short training in which the rate rises."""

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from ..errors import UserError
from ..figures import save_figure
from .base import Finder, Trial

log = logging.getLogger(__name__)

# With fewer points the curve of single batches is mostly noise.
FEWEST_STEPS = 40
# Decades over which the curve is smoothed: enough for single batches at 100 steps.
WIDTH = 0.2
# A decrease of less than this times the scatter of single steps may be chance.
CHANCE = 1.5
# The test ends when the mean of the last steps exceeds the lowest such mean by this factor.
DIVERGED = 4.0
LAST_STEPS = 5


class RangeTest(Callback):
    """Trains with an exponentially rising rate and records the losses.

    It ends the training after the last rate or when the loss has diverged. Parameter groups keep
    the ratios of their rates.

    Args:
        min_lr: first rate.
        max_lr: last rate.
        num_steps: optimizer steps from one to the other; fewer if the run itself has fewer.

    Attributes:
        rates: rate of each step.
        losses: mean loss of the batches of each step, before the step; one for each rate until the
            training diverged.
    """

    def __init__(self, min_lr: float, max_lr: float, num_steps: int) -> None:
        self.min_lr, self.max_lr, self.num_steps = min_lr, max_lr, num_steps
        self.rates: list[float] = []
        self.losses: list[float] = []
        self._batches: list[Tensor] = []
        self._lowest = math.inf
        self._ratios: list[float] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Spread the rates over the available steps.

        Raises:
            UserError: too few steps, or not one optimizer.
        """
        if len(trainer.optimizers) != 1 or not pl_module.automatic_optimization:
            raise UserError(
                "The learning-rate finder needs a model with one optimizer that Lightning steps: "
                "set the rates yourself and omit finders=lr."
            )
        steps = int(min(self.num_steps, trainer.estimated_stepping_batches))
        if steps < FEWEST_STEPS:
            raise UserError(
                f"The learning-rate finder needs {FEWEST_STEPS} optimizer steps and has {steps}: "
                "raise trainer.max_epochs or finders.lr.num_steps, or omit finders=lr."
            )
        self.rates = np.geomspace(self.min_lr, self.max_lr, steps).tolist()
        optimizer = trainer.optimizers[0]
        common = float(optimizer.defaults["lr"])
        rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._ratios = [rate / common if common > 0 else 1.0 for rate in rates]

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Set the rate of this step."""
        for group, ratio in zip(optimizer.param_groups, self._ratios, strict=True):
            group["lr"] = self.rates[len(self.losses)] * ratio

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the loss; with gradient accumulation a step has several batches."""
        # Lightning passes on the loss divided by the number of batches per step.
        self._batches.append(outputs["loss"] * trainer.accumulate_grad_batches)
        if trainer.global_step == len(self.losses):
            return
        # The mean over all processes, so that all find the same rate.
        loss = float(trainer.strategy.reduce(torch.stack(self._batches).mean(), reduce_op="mean"))
        self._batches = []
        if math.isfinite(loss):
            self.losses.append(loss)
        if not math.isfinite(loss) or self._has_diverged() or len(self.losses) == len(self.rates):
            trainer.should_stop = True

    def _has_diverged(self) -> bool:
        last = self.losses[-LAST_STEPS:]
        mean = sum(last) / len(last)
        self._lowest = min(self._lowest, mean)
        return mean > self._lowest + (DIVERGED - 1) * abs(self._lowest)


class LearningRateFinder(Finder):
    """Chooses the rate at which the loss decreases fastest in a range test.

    https://arxiv.org/abs/1506.01186; the decrease is measured per decade of the rate. All schedules
    rise to or start from this rate.

    Args:
        path: the PNG file of the curve.
        min_lr: the test's first rate.
        max_lr: the test's last rate.
        num_steps: optimizer steps of the test, at most as many as the run has.

    Raises:
        UserError: the rates are in the wrong order.
    """

    option = "optimizer.lr"

    def __init__(self, path: str, min_lr: float, max_lr: float, num_steps: int) -> None:
        if not 0 < min_lr < max_lr:
            raise UserError(
                f"finders.lr.min_lr={min_lr} must lie between 0 and finders.lr.max_lr={max_lr}."
            )
        self.path = Path(path)
        self.min_lr, self.max_lr, self.num_steps = min_lr, max_lr, num_steps

    def find(
        self,
        trainer: Trainer,
        model: LightningModule,
        datamodule: LightningDataModule,
        trial: Trial,
    ) -> float:
        """Find the rate and draw the curve.

        Raises:
            UserError: too few steps, or the loss decreases at no rate.
        """
        test = RangeTest(self.min_lr, self.max_lr, self.num_steps)
        trial(callbacks=[test], limit_val_batches=0).fit(model, datamodule)
        rates = test.rates[: len(test.losses)]
        rate = steepest(rates, test.losses)
        if trainer.is_global_zero and rates:
            configured = model.hparams["optimizer"].get("lr")
            figure = draw_range_test(rates, test.losses, rate, configured)
            save_figure(figure, self.path, trainer)
        if rate is None:
            raise UserError(
                f"The loss decreased at no rate from {self.min_lr:.3g} to {self.max_lr:.3g} in the "
                f"learning-rate finder (see {self.path}): set optimizer.lr and omit finders=lr."
            )
        return float(f"{rate:.3g}")

    def saved(self, checkpoint: dict[str, Any]) -> float:
        """The rate that the run of a checkpoint used."""
        rate: float = checkpoint["hyper_parameters"]["optimizer"]["lr"]
        return rate

    def use(self, value: float, model: LightningModule, datamodule: LightningDataModule) -> None:
        """Make the run's optimizer use the rate."""
        model.hparams["optimizer"]["lr"] = value


def smooth(rates: list[float], losses: list[float]) -> list[float]:
    """Mean of the losses around each rate, weighted by a Gaussian of their distance.

    A running mean would lag and show every decrease at too high a rate.
    """
    decades = np.log10(rates)
    distances = (decades[:, None] - decades) / WIDTH
    weights = np.exp(-0.5 * distances**2)
    smoothed: list[float] = (weights @ losses / weights.sum(axis=1)).tolist()
    return smoothed


def steepest(rates: list[float], losses: list[float]) -> float | None:
    """The rate of the steepest decrease before the minimum; None if there is no clear decrease.

    Args:
        rates: in ascending order.
        losses: one for each rate.
    """
    if not losses:
        return None
    smoothed = np.array(smooth(rates, losses))
    # After the lowest loss the training has begun to diverge.
    until = int(smoothed.argmin()) + 1
    falling = smoothed[:until]
    scatter = float(np.std(losses[:until] - falling))
    if until < 2 or falling.max() - falling.min() < CHANCE * scatter:
        return None
    return rates[int(np.gradient(falling, np.log10(rates[:until])).argmin())]


def draw_range_test(
    rates: list[float], losses: list[float], found: float | None, configured: float | None
) -> Figure:
    """Plot the loss of each step against its rate, and mark the rate that was found."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    smoothed = smooth(rates, losses)
    axes.plot(rates, losses, ".", markersize=3, alpha=0.5, label="loss of a step")
    axes.plot(rates, smoothed, label="smoothed")
    if configured is not None:
        axes.axvline(
            configured, color="grey", linestyle=":", label=f"optimizer.lr before: {configured:.3g}"
        )
    if found is not None:
        at = smoothed[rates.index(found)]
        axes.plot(found, at, "o", markersize=9, fillstyle="none", color="black")
        axes.axvline(found, color="black", linewidth=0.8, label=f"steepest, chosen: {found:.3g}")
    # A diverging loss would flatten the rest of the curve.
    low, first = min(smoothed), smoothed[0]
    axes.set_ylim(low - 0.2 * abs(first - low), first + 0.5 * abs(first - low))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss", title="Range test")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    return figure
