"""Layers and parameters of the network, without the metrics beside it."""

import logging
from typing import Any

from pytorch_lightning.callbacks import ModelSummary

log = logging.getLogger(__name__)

COLUMNS = ("Name", "Type", "Params")


class NetSummary(ModelSummary):
    """Lightning's table of layers, of `net` alone: metrics are modules too, and fill the table.

    Operations are left out: Lightning counts none where a model has no example input.
    """

    @staticmethod
    def summarize(
        summary_data: list[tuple[str, list[str]]],
        total_parameters: int,
        trainable_parameters: int,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Write the rows of the network into the log."""
        columns = dict(summary_data)
        rows = zip(*(columns[name] for name in COLUMNS), strict=True)
        kept = [row for row in rows if row[0].split(".")[0] == "net"]
        widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)) for row in kept]
        total = f"{total_parameters:,} parameters, {trainable_parameters:,} of them trained"
        log.info("%s", "\n".join([total, *lines]))
