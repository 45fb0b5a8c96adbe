"""Statistics of the layers' outputs for the same validation samples in every epoch."""

import logging
import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor, nn
from torch.nn import functional as F

from ..figures import save_figure
from ..loggers.base import log_metrics
from ..user_text import plot_labels

log = logging.getLogger(__name__)

STATISTICS = ("mean", "std", "dead", "drift_first", "drift_previous")
TITLES = (
    "mean",
    "standard deviation",
    "dead units (fraction)",
    "drift since the first epoch",
    "drift since the previous epoch",
)
# Number of labelled epochs on an axis.
MOST_LABELS = 8
# Range of the colors of a map in which all values are zero.
SMALLEST_SCALE = 1e-6
Row = dict[str, Any]  # "epoch", and under "layers" the statistics of every layer


class ActivationStats(Callback):
    """Observes the outputs of the layers for the first validation batch of every epoch.

    The loggers get five numbers per layer, as `activations_<statistic>/<layer>`: mean and standard
    deviation; dead, the fraction of units that are zero for all samples; and the drift since the
    first and since the previous epoch, as 1 - cosine similarity of the mean outputs of all units
    for all samples. A layer is a module with parameters of its own or an activation function; if a
    layer is used twice, the second output counts.

    It needs no additional forward pass. The validation split must not be shuffled, or the drift
    would include that of the samples.

    Args:
        path: the PNG file with the statistics of all epochs.
        samples: number of samples of the batch to observe.
    """

    def __init__(self, path: str, samples: int = 64) -> None:
        self.path = Path(path)
        self.samples = samples
        self.rows: list[Row] = []
        self._first: dict[str, Tensor] = {}
        self._previous: dict[str, Tensor] = {}
        self._seen: dict[str, tuple[Tensor, Tensor]] = {}
        self._watching = ExitStack()

    @rank_zero_only
    def on_validation_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Start observing the first batch."""
        is_first = batch_idx == dataloader_idx == 0
        if trainer.sanity_checking or not is_first or trainer.state.fn != "fit":
            return
        # Compiled code does not call hooks.
        self._watching.enter_context(torch.compiler.set_stance("force_eager"))
        for name, module in pl_module.named_modules():
            if is_layer(module):
                handle = module.register_forward_hook(partial(self._look, name))
                self._watching.callback(handle.remove)

    @rank_zero_only
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Stop observing, and log the statistics."""
        self._watching.close()
        if self._seen:
            self._add_row(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Stop observing."""
        self._watching.close()

    def _look(self, name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        # A padded transformer computes nested tensors in evaluation.
        if not isinstance(output, Tensor) or output.is_nested or output.is_sparse:
            return
        if output.is_floating_point() and output.ndim > 1 and output.numel():
            # Immediately: the next layer may change its input in place.
            units = by_unit(output.detach()[: self.samples].float())
            dead = (units == 0).all(dim=2).all(dim=0).float().mean()
            statistics = torch.stack([units.mean(), units.std(correction=0), dead])
            self._seen[name] = statistics, units.mean(dim=2)

    def _add_row(self, trainer: Trainer) -> None:
        layers, metrics = {}, {}
        names, statistics = list(self._seen), [seen for seen, _ in self._seen.values()]
        for name, numbers in zip(names, torch.stack(statistics).tolist(), strict=True):
            now = self._seen[name][1].cpu()
            first = self._first.setdefault(name, now)
            layers[name] = [*numbers, drift(first, now), drift(self._previous.get(name, now), now)]
            self._previous[name] = now
            for statistic, value in zip(STATISTICS, layers[name], strict=True):
                metrics[f"activations_{statistic}/{name}"] = value
        self._seen = {}
        self.rows.append({"epoch": trainer.current_epoch, "layers": layers})
        deadest = max(layers, key=lambda name: _rank(layers[name][2]))
        fastest = max(layers, key=lambda name: _rank(layers[name][4]))
        dead, fast = layers[deadest][2], layers[fastest][4]
        log.info(
            "activations: %s%s",
            f"up to {100 * dead:.0f} % dead units ({deadest})" if dead else "no dead units",
            f", drift since the previous epoch up to {fast:.2f} ({fastest})" if fast else "",
        )
        log_metrics(trainer, metrics)

    @rank_zero_only
    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the statistics of all epochs."""
        if not self.rows or trainer.fast_dev_run:
            return
        kinds = {name: type(module).__name__ for name, module in pl_module.named_modules()}
        save_figure(draw_activations(self.rows, kinds), self.path, trainer)

    def state_dict(self) -> dict[str, Any]:
        """All statistics, for the checkpoint."""
        return {"rows": self.rows, "first": self._first, "previous": self._previous}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.rows = list(state_dict["rows"])
        self._first = dict(state_dict["first"])
        self._previous = dict(state_dict["previous"])


def is_layer(module: nn.Module) -> bool:
    """Whether a module has parameters of its own or is an activation function."""
    has_parameters = next(module.parameters(recurse=False), None) is not None
    return has_parameters or type(module).__module__ == nn.ReLU.__module__


def by_unit(output: Tensor) -> Tensor:
    """An output as (samples, units, positions).

    Units are the channels of (B, C, H, W), and the last dimension of (B, C) and of tokens
    (B, T, C).
    """
    if output.ndim == 2:
        return output.unsqueeze(2)
    return output.movedim(2, 1) if output.ndim == 3 else output.flatten(2)


def drift(before: Tensor, now: Tensor) -> float:
    """1 - cosine similarity of two outputs; 0 if they are equal, even if they are all zero."""
    if before.shape != now.shape or torch.equal(before, now):
        return 0.0
    return 1 - F.cosine_similarity(before.flatten(), now.flatten(), dim=0).item()


def _rank(value: float) -> float:
    """A key for `max` that ignores NaN."""
    return -math.inf if math.isnan(value) else value


def draw_activations(rows: list[Row], kinds: dict[str, str]) -> Figure:
    """Draw one map per statistic: a row per layer from input to output, a column per epoch.

    Args:
        rows: what `ActivationStats` has collected.
        kinds: the class name of each layer.
    """
    layers = list(rows[-1]["layers"])
    labels = plot_labels([f"{name}  {kinds[name]}" for name in layers], "layer", longest=60)
    # Figure and not pyplot: pyplot keeps every figure of the process alive.
    figure = Figure(figsize=(17, 1.5 + 0.35 * len(layers)), layout="constrained")
    panels = figure.subplots(1, len(STATISTICS), sharey=True)
    labelled = range(0, len(rows), math.ceil(len(rows) / MOST_LABELS))
    for i, (axes, title) in enumerate(zip(panels, TITLES, strict=True)):
        values = torch.tensor([[row["layers"][name][i] for row in rows] for name in layers])
        largest = max(values.abs().max().item(), SMALLEST_SCALE)
        scale = {"vmin": 0, "vmax": largest, "cmap": "viridis"}
        if title == "mean":
            scale |= {"vmin": -largest, "cmap": "RdBu_r"}
        elif "fraction" in title:
            scale |= {"vmax": 1}
        figure.colorbar(axes.pcolormesh(values.numpy(), **scale), ax=axes)
        axes.set_xticks([i + 0.5 for i in labelled], [rows[i]["epoch"] + 1 for i in labelled])
        axes.set(xlabel="epoch", title=title)
    panels[0].set_yticks([i + 0.5 for i in range(len(layers))], labels)
    panels[0].invert_yaxis()
    figure.suptitle("Outputs of the layers on the same validation samples")
    return figure
