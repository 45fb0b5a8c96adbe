"""Small models and made-up samples, to compare metrics and losses with scikit-learn and NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pytorch_lightning import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from .template_package import Part

SAMPLES, CLASSES, TARGETS = 97, 4, ["price", "age"]
MEANS, STDS = [1e6, 40.0], [2.5e5, 12.0]
# The last batch is small: a mean over batches would not be one over samples.
BATCH = 30


def make(package: Part, name: str, **told: Any) -> Any:
    """A model of three inputs."""
    common: dict[str, Any] = {
        "net": {"name": "mlp", "width": 8, "depth": 1},
        "optimizer": {"name": "SGD", "lr": 0.1},
        "scheduler": {"name": "constant"},
        "input_shape": [3],
    }
    return getattr(package("models"), name)(**common | told)


def rejection(package: Part, name: str, **told: Any) -> str:
    """The one sentence with which a model refuses its options."""
    with pytest.raises(package("errors").UserError) as refused:
        make(package, name, **told)
    message = str(refused.value)
    assert "\n" not in message
    return message


def trainer(folder: Path, **options: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(accelerator="cpu", default_root_dir=folder, **quiet | options)


def loader(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), batch_size=BATCH)


def computed(model: Any, predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """What the validation metrics of a model make of predictions that come in batches."""
    collection = model.metrics["val_metrics"]
    for start in range(0, len(targets), BATCH):
        collection.update(*(values[start : start + BATCH] for values in (predictions, targets)))
    return {name.removeprefix("val/"): float(v) for name, v in collection.compute().items()}


def made_up_classes() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (N, C) that are right more often than not, and classes."""
    rng = np.random.default_rng(0)
    y = rng.choice(CLASSES, SAMPLES, p=[0.5, 0.3, 0.15, 0.05])
    logits = rng.normal(size=(SAMPLES, CLASSES)) + 1.5 * np.eye(CLASSES)[y]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), y


def made_up_labels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (N, L) and labels."""
    rng = np.random.default_rng(1)
    y = (rng.random((SAMPLES, 3)) < [0.5, 0.3, 0.1]).astype(np.int64)
    return 1 / (1 + np.exp(-rng.normal(size=y.shape) - 2 * y + 1)), y
