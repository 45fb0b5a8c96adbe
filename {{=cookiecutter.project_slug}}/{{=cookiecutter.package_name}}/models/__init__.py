"""LightningModules: what is optimized, measured and logged. Their networks are in `nets/`."""

from .classifier import Classifier
from .regressor import Regressor

__all__ = ["Classifier", "Regressor"]
