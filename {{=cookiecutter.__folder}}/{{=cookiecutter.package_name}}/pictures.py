"""Pictures in a run's folder and in its loggers."""

from pathlib import Path

from matplotlib.figure import Figure
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger

DPI = 120
# To press a file of 60 kB as hard as matplotlib does takes as long as drawing it.
COMPRESSION = {"compress_level": 1}


def save_picture(figure: Figure, path: Path, trainer: Trainer) -> None:
    """Write a PNG file and show it in TensorBoard, under the name of the file.

    The file's bytes go into TensorBoard: `add_figure` would draw everything once more, which
    takes as long as the training of two epochs of digits.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, pil_kwargs=COMPRESSION)
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            from tensorboard.compat.proto.summary_pb2 import Summary

            width, height = (round(inches * DPI) for inches in figure.get_size_inches())
            image = Summary.Image(
                width=width, height=height, colorspace=4, encoded_image_string=path.read_bytes()
            )
            value = Summary.Value(tag=path.stem, image=image)
            logger.experiment.file_writer.add_summary(Summary(value=[value]), trainer.global_step)
