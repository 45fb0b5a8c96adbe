"""One pass over the data: predictions, losses and a layer's activations."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..errors import UserError, nearest
from ..models.base import BaseModule
from ..models.supervised import SupervisedModule
from .outcome import Outcome

# More points than this hide each other in a picture, and their activations fill the memory.
MOST_ACTIVATIONS = 2000


def collect(
    trainer: Trainer, model: BaseModule, loader: DataLoader[Any], layer: str | None = None
) -> Outcome:
    """What `model` makes of every sample of `loader`.

    Args:
        trainer: runs the model, on its device and in its precision.
        model: with a `predict_step`.
        loader: batches (x, y) in a fixed order.
        layer: the module whose outputs become `activations`, for example "net.features"; None
            takes the inputs of the last layer with weights.

    Raises:
        UserError: there is no such layer, it has no part in a prediction, or predictions are NaN.
    """
    recorder = Recorder(model, layer, every=math.ceil(len(loader.dataset) / MOST_ACTIVATIONS))  # type: ignore[arg-type]
    # Compiled networks do not call hooks.
    with recorder.attached(trainer), torch.compiler.set_stance("force_eager"):
        batches = trainer.predict(model, loader) or []
    predictions = torch.cat([torch.as_tensor(batch) for batch in batches]).float().cpu()
    bad = int((~predictions.isfinite()).view(len(predictions), -1).any(dim=1).sum())
    if bad:
        raise UserError(
            f"The model predicts NaN or infinity for {bad} of {len(predictions)} samples, which no "
            "picture can show: take a checkpoint from before the training went wrong."
        )
    targets = torch.cat(recorder.targets)
    losses = sample_losses(model, torch.cat(recorder.outputs), targets)
    if isinstance(model, SupervisedModule):
        targets, predictions = map(model.in_target_unit, (targets, predictions))
    return Outcome(
        model=model,
        dataset=loader.dataset,
        targets=targets,
        predictions=predictions,
        losses=losses,
        layer=recorder.place,
        activations=torch.cat(recorder.activations),
        positions=torch.arange(0, len(targets), recorder.every),
    )


def sample_losses(model: BaseModule, outputs: Tensor, targets: Tensor) -> Tensor:
    """The loss of each sample alone (N,); empty for a model without targets.

    `model.loss` is a mean over a batch, so it is asked about batches of one.
    """
    if not isinstance(model, SupervisedModule):
        return torch.empty(0)
    pairs = zip(outputs.split(1), targets.split(1), strict=True)
    return torch.stack([model.loss(output, target) for output, target in pairs])


def find_layer(model: BaseModule, name: str) -> nn.Module:
    """The layer of this name, for example "net.features".

    Raises:
        UserError: there is no such layer.
    """
    modules = dict(model.named_modules())
    if name not in modules:
        names = [known for known in modules if known.partition(".")[0] == "net"]
        raise UserError(f"The model has no layer {name!r}; {nearest(name, names)}")
    return modules[name]


class Recorder(Callback):
    """Keeps the targets and what the network and one of its layers compute.

    Args:
        model: whose network is recorded.
        layer: name of a module, or None for the inputs of the last layer with weights.
        every: the layer is recorded for every so many samples.

    Raises:
        UserError: there is no such layer.
    """

    def __init__(self, model: BaseModule, layer: str | None, every: int) -> None:
        self.net, self.every = model.net, every
        self.targets: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.activations: list[Tensor] = []
        self._seen = 0
        self._latest: Tensor | None = None
        self._at_input = layer is None
        name = last_layer(model) if layer is None else layer
        self.place = f"the input of {name}" if layer is None else f"the output of {name}"
        self.layer = find_layer(model, name)

    @contextmanager
    def attached(self, trainer: Trainer) -> Iterator[None]:
        """Record what the trainer predicts meanwhile."""
        hooks = [
            self.layer.register_forward_hook(self._note_layer),
            self.net.register_forward_hook(self._note_batch),
        ]
        trainer.callbacks.append(self)
        try:
            yield
        finally:
            trainer.callbacks.remove(self)
            for hook in hooks:
                hook.remove()

    def on_predict_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the targets, so that the data are read once."""
        self.targets.append(batch[1].cpu())

    def _note_layer(self, module: Any, inputs: tuple[Any, ...], output: Any) -> None:
        noted = inputs[0] if self._at_input else output
        if not isinstance(noted, Tensor) or noted.dim() < 2:
            return
        chosen = noted[-self._seen % self.every :: self.every].float()
        # The positions of a feature map (B, channels, ...) are averaged. A copy in any case: the
        # next layer may work in place.
        self._latest = chosen.flatten(2).mean(dim=2) if chosen.dim() > 2 else chosen.clone()

    def _note_batch(self, module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """At the end of the network's forward pass."""
        count = len(range(-self._seen % self.every, len(output), self.every))
        if self._latest is None or len(self._latest) != count:
            raise UserError(
                f"A prediction does not make {self.place}, or not as a tensor with one row for "
                "each sample: choose another layer, or leave `layer` out of the command."
            )
        self.outputs.append(output.float().cpu())
        self.activations.append(self._latest.cpu())
        self._seen += len(output)
        self._latest = None


def last_layer(model: BaseModule) -> str:
    """Name of the last module with parameters of its own, in the order of definition."""
    with_weights = [
        name
        for name, module in model.named_modules()
        if name.partition(".")[0] == "net" and list(module.parameters(recurse=False))
    ]
    return with_weights[-1] if with_weights else "net"
