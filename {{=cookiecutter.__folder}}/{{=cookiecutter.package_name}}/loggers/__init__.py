"""Lightning's loggers, changed where they lose records, time or the training.

`configs/logger/` chooses.
"""

from .csv_file import CSVLogger
from .mlflow import MLFlowLogger
from .tensorboard import TensorBoardLogger
from .wandb import WandbLogger

__all__ = ["CSVLogger", "MLFlowLogger", "TensorBoardLogger", "WandbLogger"]
