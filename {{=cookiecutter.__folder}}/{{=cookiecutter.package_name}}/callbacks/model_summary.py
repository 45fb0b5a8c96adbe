"""Layers and parameters of the network, without the metrics beside it."""

from typing import Any

from pytorch_lightning.callbacks import ModelSummary


class NetSummary(ModelSummary):
    """Lightning's table of layers, of `net` alone: metrics are modules too, and fill the table."""

    @staticmethod
    def summarize(summary_data: list[tuple[str, list[str]]], *args: Any, **kwargs: Any) -> None:
        """Print the rows of the network."""
        names = dict(summary_data)["Name"]
        kept = [i for i, name in enumerate(names) if name.split(".")[0] == "net"]
        rows = [(column, [values[i] for i in kept]) for column, values in summary_data]
        ModelSummary.summarize(rows, *args, **kwargs)
