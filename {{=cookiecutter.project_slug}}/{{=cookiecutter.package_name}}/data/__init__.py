"""LightningDataModules, one per file."""

from .csv_file import CSVDataModule
from .diabetes import DiabetesDataModule
from .digits import DigitsDataModule
from .image_folder import ImageFolderDataModule
from .mnist1d import MNIST1DDataModule
from .text import TextDataModule
from .text_csv import TextCSVDataModule
from .torchvision_images import CIFAR10DataModule, FashionMNISTDataModule, MNISTDataModule

__all__ = [
    "CIFAR10DataModule",
    "CSVDataModule",
    "DiabetesDataModule",
    "DigitsDataModule",
    "FashionMNISTDataModule",
    "ImageFolderDataModule",
    "MNIST1DDataModule",
    "MNISTDataModule",
    "TextCSVDataModule",
    "TextDataModule",
]
