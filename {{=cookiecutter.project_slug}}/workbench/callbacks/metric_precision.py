"""Metrics that stay in 32 bits where the model is in half precision."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

HALF = (torch.float16, torch.bfloat16)


class MetricPrecision(Callback):
    """Takes torchmetrics back to float32 with `trainer.precision=bf16-true` or `16-true`.

    In bfloat16 256 + 1 is 256, so a count of samples would end there.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before anything is measured."""
        for module in pl_module.modules():
            # Not `_dtype`, which moving the model to its device sets to float32 again.
            if isinstance(module, Metric) and any(is_half(s) for s in module.metric_state.values()):
                module.set_dtype(torch.float32)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same without a training."""
        self.on_fit_start(trainer, pl_module)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same for a test."""
        self.on_fit_start(trainer, pl_module)


def is_half(state: Tensor | list[Tensor]) -> bool:
    """Whether a state of a metric is in half precision; a list of batches is not added up."""
    return isinstance(state, Tensor) and state.dtype in HALF
