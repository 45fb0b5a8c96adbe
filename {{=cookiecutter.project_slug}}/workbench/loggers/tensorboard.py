"""Lightning's TensorBoard logger, which takes less time."""

from collections.abc import Mapping

from pytorch_lightning import loggers
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary

from .outages import SurvivesOutages


class TensorBoardLogger(SurvivesOutages, loggers.TensorBoardLogger):
    """Event files, in which all metrics that are logged together are one record.

    Lightning writes a record for each number, and TensorBoard opens the file for each record.
    The arguments are those of Lightning's `TensorBoardLogger`.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the metrics of a step."""
        start = f"{self._prefix}{self.LOGGER_JOIN_CHAR}" if self._prefix else ""
        values = [
            Summary.Value(tag=start + name, simple_value=float(value))
            for name, value in metrics.items()
        ]
        # The method opens a file again that was closed at the end of the fit.
        writer = self.experiment._get_file_writer()
        self.attempt(writer.add_summary, Summary(value=values), step)

    @rank_zero_only
    def save(self) -> None:
        """Write what waits; the run's config, which Lightning adds here, lies in its folder."""
        self.attempt(self.experiment.flush)
