"""Layers and parameters of a model, without its metrics."""

import logging

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelSummary
from torch import nn
from torchmetrics import Metric, MetricCollection

log = logging.getLogger(__name__)

COLUMNS = ("Name", "Type", "Params")


class NetSummary(ModelSummary):
    """Lightning's table of layers without metrics, which are modules too and would fill it.

    Operations are left out: Lightning counts none where a model has no example input.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the table into the log."""
        summary = self._summary(trainer, pl_module)
        columns = dict(summary._get_summary_data())
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
        metrics = {name for name, module in pl_module.named_modules() if is_metric(module)}
        kept = [row for row in rows if row[0] not in metrics]
        if not trainer.is_global_zero:
            return
        widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)) for row in kept]
        total = f"{summary.total_parameters:,} parameters"
        trained = f"{summary.trainable_parameters:,} of them trained"
        log.info("%s", "\n".join([f"{total}, {trained}", *lines]))


def is_metric(module: nn.Module) -> bool:
    """Whether a module is a metric, part of one, or holds nothing but metrics."""
    if isinstance(module, Metric | MetricCollection):
        return True
    children = list(module.children())
    is_container = isinstance(module, nn.ModuleDict | nn.ModuleList)
    return is_container and bool(children) and all(map(is_metric, children))
