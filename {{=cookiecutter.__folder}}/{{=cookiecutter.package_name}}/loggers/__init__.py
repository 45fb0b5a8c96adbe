"""Lightning's loggers, changed where they lose records or time; `configs/logger/` chooses."""

from .csv_file import CSVLogger
from .tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "TensorBoardLogger"]
