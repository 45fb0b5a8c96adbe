"""LightningModules: what is optimised, measured and logged. The networks are in `nets/`."""

from .classifier import Classifier
from .regressor import Regressor
from .simclr import SimCLR

__all__ = ["Classifier", "Regressor", "SimCLR"]
