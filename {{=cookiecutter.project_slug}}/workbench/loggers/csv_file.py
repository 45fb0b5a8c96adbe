"""Lightning's CSV logger, without deleting what a resumed run has logged before."""

import csv
from pathlib import Path

from pytorch_lightning import loggers
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment
from pytorch_lightning.utilities import rank_zero_only

from .base import RunLogger


class ContinuedWriter(ExperimentWriter):
    """Appends to an existing `metrics.csv`."""

    def _check_log_dir_exists(self) -> None:
        """Read the columns from the file, which Lightning deletes here."""
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                self.metrics_keys = list(next(csv.reader(file), []))

    def forget_after(self, step: int) -> None:
        """Remove the rows of later steps, and an incomplete last line."""
        path = Path(self.metrics_file_path)
        if not path.is_file():
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if is_until(row, step)]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=self.metrics_keys)
            writer.writeheader()
            writer.writerows(rows)


def is_until(row: dict[str, str | None], step: int) -> bool:
    """Whether a row is complete and not later than this step."""
    number = row.get("step") or ""
    return None not in row.values() and number.isdigit() and int(number) <= step


class CSVLogger(RunLogger, loggers.CSVLogger):
    """`metrics.csv` in a directory, continued when a run is resumed there.

    The arguments are those of Lightning's `CSVLogger`.
    """

    _experiment: ContinuedWriter | None

    @property
    @rank_zero_experiment
    def experiment(self) -> ContinuedWriter:
        """The writer of the file."""
        if self._experiment is None:
            Path(self.root_dir).mkdir(parents=True, exist_ok=True)
            self._experiment = ContinuedWriter(self.log_dir)
        return self._experiment

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Remove what was logged after this step."""
        self.experiment.forget_after(step)
