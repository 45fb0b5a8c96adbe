"""Lightning's TensorBoard logger, with less overhead."""

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import loggers
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from torch import Tensor

from .base import RunLogger

# Positions of width and height in a PNG file.
PNG_SIZE = slice(16, 24)


class TensorBoardLogger(RunLogger, loggers.TensorBoardLogger):
    """Event files, in which the metrics of a step form one record.

    Lightning writes a record for each number, and TensorBoard opens the file for each record.
    The arguments are those of Lightning's `TensorBoardLogger`.
    """

    shows_histograms = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._waiting: dict[str, float] = {}
        self._step: int | None = None
        self._logged_at = 0.0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write the metrics of a step, together with others of the step that follow."""
        if step != self._step:
            self._write()
        start = f"{self._prefix}{self.LOGGER_JOIN_CHAR}" if self._prefix else ""
        self._waiting |= {start + name: float(value) for name, value in metrics.items()}
        self._step, self._logged_at = step, time.time()

    def _write(self) -> None:
        values = [Summary.Value(tag=tag, simple_value=v) for tag, v in self._waiting.items()]
        self._waiting = {}
        if values:
            # The method reopens a file that was closed at the end of the fit.
            writer = self.experiment._get_file_writer()
            self.attempt(writer.add_summary, Summary(value=values), self._step, self._logged_at)

    @rank_zero_only
    def save(self) -> None:
        """Flush the file; Lightning would also write the config, which the run's folder has."""
        self._write()
        self.attempt(self.experiment.flush)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what waits, and close the file."""
        self._write()
        super().finalize(status)

    @rank_zero_only
    def show_image(self, path: Path, step: int) -> None:
        """Embed a PNG file: `add_figure` would render the figure a second time, which is slow."""
        content = path.read_bytes()
        width, height = struct.unpack(">II", content[PNG_SIZE])
        image = Summary.Image(
            width=width, height=height, colorspace=4, encoded_image_string=content
        )
        value = Summary.Value(tag=path.stem, image=image)
        self.attempt(self.experiment.file_writer.add_summary, Summary(value=[value]), step)

    @rank_zero_only
    def show_text(self, name: str, text: str, step: int) -> None:
        """Add to the TEXT tab."""
        self.attempt(self.experiment.add_text, name, text, step)

    @rank_zero_only
    def show_histogram(self, name: str, values: Tensor, step: int) -> None:
        """Add to the HISTOGRAMS tab."""
        self.attempt(self.experiment.add_histogram, name, values, step)

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Hide later points, like `purge_step` of a SummaryWriter before the step is known."""
        restart = SessionLog(status=SessionLog.START)
        self.experiment.file_writer.add_event(Event(session_log=restart), step + 1)

    def log_config(self, config: dict[str, Any], metrics: dict[str, float]) -> None:
        """Add a row to the HPARAMS tab."""
        self.log_hyperparams(config, metrics)
