"""Collects what a model computes for a split: predictions, losses and a layer's activations."""

import difflib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from ..data.batches import LABEL, tensors
from ..errors import UserError, nearest
from ..models.supervised import SupervisedModule
from .interface import Evaluation

log = logging.getLogger(__name__)

# More points than this hide each other in a plot, and their activations would fill the memory.
MOST_ACTIVATIONS = 2000
# Integer targets with more values than this are not classes.
MOST_CLASSES = 100
# Layers whose channels are the last dimension of their inputs and outputs.
CHANNELS_LAST = (nn.Linear, nn.LayerNorm, nn.Embedding)


def collect(
    trainer: Trainer, model: SupervisedModule, loader: DataLoader[Any], layer: str | None = None
) -> Evaluation:
    """Predict every sample of `loader`.

    Args:
        trainer: runs the model.
        model: a classifier or regressor.
        loader: batches (x, y) in a fixed order.
        layer: the module whose outputs become `activations`, for example "net.features"; None for
            the inputs of the last layer with weights.

    Raises:
        UserError: there is no such layer, predictions do not use it, or predictions are NaN.
    """
    recorder = Recorder(model, layer)
    outputs: list[Tensor] = []
    hook = model.net.register_forward_hook(lambda net, x, y: outputs.append(y.float().cpu()))
    try:
        with recorder.attached(trainer):
            batches = trainer.predict(model, loader) or []
    finally:
        hook.remove()
    if layer is not None and not recorder.is_complete:
        raise UserError(
            f"Predicting does not compute {recorder.place}, or not as a tensor with one row for "
            "each sample: choose another layer, or leave `layer` out of the command."
        )
    predictions = torch.cat([torch.as_tensor(batch) for batch in batches]).float().cpu()
    bad = int((~predictions.isfinite()).view(len(predictions), -1).any(dim=1).sum())
    if bad:
        raise UserError(
            f"The model predicts NaN or infinity for {bad} of {len(predictions)} samples, which "
            "cannot be plotted: use a checkpoint from before the training diverged."
        )
    targets = recorder.targets
    return Evaluation(
        task=model.task,
        dataset=loader.dataset,
        targets=model.in_target_unit(targets),
        predictions=model.point(model.in_target_unit(predictions)),
        losses=sample_losses(model, torch.cat(outputs), targets),
        layer=recorder.place,
        activations=recorder.activations,
        positions=recorder.positions,
        class_names=model.output_names if model.task != "regression" else [],
        target_names=model.target_names,
        preprocessing=dict(model.hparams["preprocessing"] or {}),
        model=model,
    )


def collect_features(
    run: Callable[[], Any], trainer: Trainer, model: LightningModule, layer: str | None = None
) -> Evaluation:
    """Record what a layer of any model computes during a test or a validation.

    Args:
        run: tests or validates the model with the trainer.
        trainer: the trainer.
        model: any model.
        layer: see `collect`.

    Raises:
        UserError: there is no such layer, or it does not compute one row for each sample.
    """
    recorder = Recorder(model, layer)
    with recorder.attached(trainer):
        run()
    if not recorder.is_complete:
        reason = f"{recorder.place} is not a tensor with one row for each sample of a batch"
        if layer is not None:
            raise UserError(f"layer={layer}: {reason}; choose another layer.")
        log.info("no features to show: %s", reason)
    names = getattr(model, "class_names", None) or model.hparams.get("class_names") or []
    kind = recorder.kind_of_targets(len(names))
    if kind == "classification" and not names:
        names = range(int(recorder.targets.max()) + 1)
    return Evaluation(
        task=kind,
        dataset=recorder.dataset,
        targets=recorder.targets,
        predictions=torch.empty(0),
        losses=torch.empty(0),
        layer=recorder.place,
        activations=recorder.activations,
        positions=recorder.positions,
        class_names=[str(name) for name in names],
        target_names=["target"],
        model=model,
    )


def sample_losses(model: SupervisedModule, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each sample (N,).

    `model.loss` is a mean over a batch, so it is computed for batches of one.
    """
    pairs = zip(outputs.split(1), targets.split(1), strict=True)
    return torch.stack([model.loss(output, target) for output, target in pairs])


def find_layer(model: LightningModule, name: str) -> nn.Module:
    """The layer of this name, for example "net.features".

    Raises:
        UserError: there is no such layer.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        known = [other for other in modules if other and not _is_in_metric(other, modules)]
        if not difflib.get_close_matches(name, known):
            # The names of all modules would fill a screen.
            known = [other for other in known if "." not in other]
        raise UserError(f"The model has no layer {name!r}; {nearest(name, known)}")
    return modules[name]


def last_layer(model: LightningModule) -> str:
    """Name of the last module with its own parameters, in the order of definition.

    If the model has a `net`, the last one in it: other modules, such as an auxiliary head, may not
    be used for predictions.
    """
    modules = dict(model.named_modules())
    with_weights = [
        name
        for name, module in modules.items()
        if any(True for _ in module.parameters(recurse=False)) and not _is_in_metric(name, modules)
    ]
    in_net = [name for name in with_weights if name.partition(".")[0] == "net"]
    return (in_net or with_weights or ["net" if "net" in modules else ""])[-1]


def _is_in_metric(name: str, modules: dict[str, nn.Module]) -> bool:
    """Whether a module is a metric or part of one; some metrics contain networks."""
    parts = name.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return any(isinstance(modules.get(part), Metric) for part in above)


class Recorder(Callback):
    """Records the targets of batches, and what a layer computes for some of the samples.

    The targets are y of (x, y), or the entry `label` of a dictionary.

    Of several loaders, only the first is recorded.

    Args:
        model: the model.
        layer: name of a module, or None for the inputs of the last layer with weights.

    Attributes:
        place: the layer, in words.
        is_complete: whether the layer computed one row for each sample of every batch.
        dataset: the loader's dataset.

    Raises:
        UserError: there is no such layer.
    """

    def __init__(self, model: LightningModule, layer: str | None) -> None:
        self._at_input = layer is None
        name = last_layer(model) if layer is None else layer
        shown = name or type(model).__name__
        self.place = f"the input of {shown}" if self._at_input else f"the output of {shown}"
        self.layer = find_layer(model, name)
        self.is_complete = True
        self.dataset: Any = None
        self._every, self._seen = 1, 0
        self._size: int | None = None
        self._latest: Tensor | None = None
        self._targets: list[Tensor] = []
        self._activations: list[Tensor] = []
        self._positions: list[int] = []

    @property
    def targets(self) -> Tensor:
        """Targets of all samples (N, ...); empty if a batch had none."""
        return torch.cat(self._targets) if self._has_targets() else torch.empty(0)

    def _has_targets(self) -> bool:
        shapes = {target.shape[1:] for target in self._targets}
        return len(shapes) == 1 and sum(map(len, self._targets)) == self._seen

    @property
    def activations(self) -> Tensor:
        """Activations of evenly spaced samples (M, channels)."""
        usable = self.is_complete and self._activations
        return torch.cat(self._activations) if usable else torch.empty(0, 0)

    @property
    def positions(self) -> Tensor:
        """Indices of these samples in the dataset (M,)."""
        return torch.tensor(self._positions, dtype=torch.long)

    def kind_of_targets(self, classes: int) -> str | None:
        """What the targets look like: "classification", "regression" or None."""
        targets = self.targets
        if targets.dim() != 1 or len(targets) == 0:
            return None
        if targets.is_floating_point():
            return "regression"
        low, high = (int(end) for end in targets.long().aminmax())
        is_class = low >= 0 and high < (classes or MOST_CLASSES)
        return "classification" if is_class else None

    @contextmanager
    def attached(self, trainer: Trainer) -> Iterator[None]:
        """Record what the trainer runs in this context."""
        hook = self.layer.register_forward_hook(self._note_layer)
        trainer.callbacks.append(self)
        try:
            # Compiled networks call no hooks.
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            trainer.callbacks.remove(self)
            hook.remove()

    def _start_batch(self, batch: Any, loaders: Any, counts: list[int | float]) -> None:
        self._latest, self._size = None, batch_size_of(batch)
        if self._size and not self._seen:
            self.dataset = getattr(first_loader(loaders), "dataset", None)
            try:
                samples: float = len(self.dataset)
            except TypeError:
                samples = self._size * counts[0]
            self._every = math.ceil(samples / MOST_ACTIVATIONS) if samples < math.inf else 1

    def _end_batch(self, batch: Any) -> None:
        chosen = range(-self._seen % self._every, self._size or 0, self._every)
        if self._latest is None or len(self._latest) != len(chosen):
            self.is_complete = False
        elif len(self._positions) < MOST_ACTIVATIONS + self._every:
            self._activations.append(self._latest.cpu())
            self._positions += [self._seen + number for number in chosen]
        target = batch.get(LABEL) if isinstance(batch, Mapping) else None
        if isinstance(batch, list | tuple) and len(batch) == 2:
            target = batch[1]
        if isinstance(target, Tensor) and len(target.shape) > 0:
            self._targets.append(target.cpu())
        self._seen += self._size or 0

    def _note_layer(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        noted: Any = (inputs[0] if inputs else None) if self._at_input else output
        is_plain = isinstance(noted, Tensor) and not noted.is_nested
        # A step may also use the layer for rows that are not the batch's.
        if not is_plain or noted.dim() < 2 or len(noted) != self._size:
            return
        chosen = noted[-self._seen % self._every :: self._every].float()
        if chosen.dim() == 2:
            # The next layer may work in place.
            self._latest = chosen.clone()
        elif isinstance(module, CHANNELS_LAST):
            # The positions of a sequence (B, ..., channels) are averaged,
            self._latest = chosen.flatten(1, -2).mean(dim=1)
        else:
            # and those of a feature map (B, channels, ...).
            self._latest = chosen.flatten(2).mean(dim=2)

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Prepare to record a batch."""
        if dataloader_idx == 0:
            assert trainer.state.stage is not None
            stage = trainer.state.stage.dataloader_prefix
            loaders = getattr(trainer, f"{stage}_dataloaders")
            self._start_batch(batch, loaders, getattr(trainer, f"num_{stage}_batches"))

    on_test_batch_start = on_predict_batch_start
    on_validation_batch_start = on_predict_batch_start

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep what was recorded."""
        if dataloader_idx == 0:
            self._end_batch(batch)

    on_test_batch_end = on_predict_batch_end
    on_validation_batch_end = on_predict_batch_end


def batch_size_of(batch: Any) -> int | None:
    """The length of the first tensor in a batch that has one; None if there is none."""
    return next((tensor.size(0) for tensor in tensors(batch) if tensor.ndim), None)


def first_loader(loaders: Any) -> Any:
    """The first of several loaders, or the only one."""
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    return loaders[0] if isinstance(loaders, list | tuple) else loaders
