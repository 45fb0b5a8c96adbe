"""Pictures in a run's folder and in its loggers."""

from pathlib import Path

from matplotlib.figure import Figure
from pytorch_lightning import Trainer

from .loggers.mlflow import MLFlowLogger
from .loggers.tensorboard import TensorBoardLogger
from .loggers.wandb import WandbLogger

DPI = 120
# To press a file of 60 kB as hard as matplotlib does takes as long as drawing it.
COMPRESSION = {"compress_level": 1}


def save_picture(figure: Figure, path: Path, trainer: Trainer) -> None:
    """Write a PNG file and show it, under its name, in the loggers that show pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, pil_kwargs=COMPRESSION)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            _add_to_tensorboard(logger, figure, path, trainer.global_step)
        elif isinstance(logger, WandbLogger | MLFlowLogger):
            logger.log_picture(path)


def _add_to_tensorboard(
    logger: TensorBoardLogger, figure: Figure, path: Path, global_step: int
) -> None:
    """Show the file's bytes: `add_figure` would draw everything once more, which takes long."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = (round(inches * DPI) for inches in figure.get_size_inches())
    image = Summary.Image(
        width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes()
    )
    value = Summary.Value(tag=path.stem, image=image)
    writer = logger.experiment.file_writer
    logger.attempt(writer.add_summary, Summary(value=[value]), global_step)
