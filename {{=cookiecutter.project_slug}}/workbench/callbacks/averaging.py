"""What SWA and EMA share: a second, averaged set of weights beside the ones in training."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..errors import UserError

log = logging.getLogger(__name__)


class WeightAverage(Callback):
    """Keeps an average of the weights and saves it on its own when training ends.

    The model itself trains on as if nothing were averaged. The average is part of every
    checkpoint, so a resumed run goes on with it; it draws no random numbers.

    Args:
        path: checkpoint file of the averaged weights.
        start: share of the training after which averaging begins, from 0 up to below 1.

    Attributes:
        average: the averaged parameters and buffers by name, in float32 or better.
        count: how many sets of weights went into the average; 0 before it has begun.
        is_saved: whether the file was written by this run.

    Raises:
        UserError: `start` is no such share.
    """

    def __init__(self, path: str, start: float) -> None:
        if not 0 <= start < 1:
            raise UserError(
                f"start of {type(self).__name__} is a share of the training from 0 up to below 1, "
                f"not {start!r}."
            )
        self.path = Path(path)
        self.start = start
        self.average: dict[str, Tensor] = {}
        self.count = 0
        self.is_saved = False
        self._first_step = 0
        # The weights in training, while the averaged ones take their place in the model.
        self._in_training: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on from the weights in training where a checkpoint holds the averaged ones."""
        self.put_back(pl_module)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the step where averaging begins, and take up the average of a checkpoint."""
        if self.start > 0:
            self._first_step = round(self.start * trainer.estimated_stepping_batches)
        self.average = {name: value.to(pl_module.device) for name, value in self.average.items()}

    def has_begun(self, trainer: Trainer) -> bool:
        """Whether the training has come to the steps that are averaged."""
        return trainer.global_step > self._first_step

    @torch.no_grad()
    def update(self, pl_module: LightningModule, share: float) -> None:
        """Move the average towards the present weights by this share of the way."""
        # In bfloat16 small shares would be rounded away.
        present = {
            name: value.to(torch.promote_types(value.dtype, torch.float32), copy=self.count == 0)
            for name, value in _tensors(pl_module).items()
            if value.is_floating_point()
        }
        if self.count == 0:
            self.average = present
        else:
            move = get_ema_multi_avg_fn(1 - share)
            move([*self.average.values()], [present[name] for name in self.average], None)
        self.count += 1

    @torch.no_grad()
    def put_in(self, pl_module: LightningModule) -> None:
        """Put the averaged weights into the model, if there are any."""
        if self.count == 0:
            return
        present = _tensors(pl_module)
        self._in_training = {name: value.clone() for name, value in present.items()}
        for name, value in self.average.items():
            present[name].copy_(value)

    @torch.no_grad()
    def put_back(self, pl_module: LightningModule) -> None:
        """Put the weights in training back into the model, if they are not there."""
        present = _tensors(pl_module)
        for name, value in self._in_training.items():
            present[name].copy_(value)
        self._in_training = {}

    @contextmanager
    def in_place(self, pl_module: LightningModule) -> Iterator[None]:
        """The averaged weights are in the model within this context."""
        self.put_in(pl_module)
        try:
            yield
        finally:
            self.put_back(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the averaged weights, in a checkpoint for evaluation and prediction."""
        if self.count == 0:
            log.info(
                "%s: training ended before averaging began, so there are no averaged weights",
                type(self).__name__,
            )
            return
        with self.in_place(pl_module):
            self.prepare(trainer, pl_module)
            if not trainer.fast_dev_run:
                trainer.save_checkpoint(self.path, weights_only=True)
                self.is_saved = True

    def prepare(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do what the averaged weights, now in the model, still need."""

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Forget the average: whatever is validated after training is meant as it is."""
        if stage == "fit":
            self.average, self.count = {}, 0

    def state_dict(self) -> dict[str, Any]:
        """The average, for the checkpoint."""
        return {"average": self.average, "count": self.count, "in_training": self._in_training}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the average of the checkpoint."""
        self.average = dict(state_dict["average"])
        self.count = state_dict["count"]
        self._in_training = dict(state_dict["in_training"])


def _tensors(pl_module: LightningModule) -> dict[str, Tensor]:
    """Parameters and buffers by name, the tensors themselves."""
    return {**dict(pl_module.named_parameters()), **dict(pl_module.named_buffers())}
