"""LightningDataModules, one per file."""

from .csv_file import CSVDataModule
from .diabetes import DiabetesDataModule
from .digits import DigitsDataModule
from .image_folder import ImageFolderDataModule
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
    "MNISTDataModule",
    "TextCSVDataModule",
    "TextDataModule",
]
