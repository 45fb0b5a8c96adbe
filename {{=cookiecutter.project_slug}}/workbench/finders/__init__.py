"""Finders determine options before training: a batch size that fits and a learning rate."""

from .base import Finder, find_values
from .batch_size import BatchSizeFinder
from .learning_rate import LearningRateFinder

__all__ = ["BatchSizeFinder", "Finder", "LearningRateFinder", "find_values"]
