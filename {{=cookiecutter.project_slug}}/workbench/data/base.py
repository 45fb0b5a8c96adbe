"""What all datamodules share: splits made once, loaders, and facts for the model.

For data of your own, override `load`, or `read` of a subclass. Two more hooks change one thing
each: `split`, which sample is in which split, and `collate_fn`, how samples become a batch.
"""

import hashlib
import math
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ..checks import DATA_CHECKS
from ..errors import UserError
from .augmentation import Augmentation
from .batches import Batch, collate, make_loader
from .images import Augment
from .splits import Indices, Samples, check_folds, make_splits


class BaseDataModule(LightningDataModule):
    """Train, val and test loaders, of `(x, y)` batches unless `load` returns other datasets.

    A subclass saves its arguments with `save_hyperparameters(logger=False)`, all of them plain
    values, and sets the attributes below in `load`. x is float32 (B, *input_shape); y is int64 (B,)
    of class numbers, or float32 (B,) of values to predict.

    These values are (target - target_mean) / target_std, which `standardise_target` computes. A
    subclass whose targets suit a network as they are, near zero and of moderate size, can also
    yield them and leave `target_mean` and `target_std` alone.

    The datamodules share these arguments, which are documented only here:

    Args:
        batch_size: samples in a batch.
        val_fraction: fraction of all samples for validation; with `folds`, of those of the other
            folds. With a given test split, fractions are of the samples that are in no given split.
        test_fraction: fraction of all samples for the test; unused with `folds`.
        split_seed: determines the splits, whatever the run's seed.
        folds: number of folds of a cross-validation; null for a single split.
        fold: the fold to test on, or to validate on with a given test split, counted from 0; null
            lets train.py train all of them.
    """

    task: str  # "classification", "multilabel" or "regression"
    input_shape: tuple[int, ...]
    preprocessing: dict[str, Any]  # turns a raw image or row into an input
    class_names: list[str]  # classification; multilabel: of the labels
    # Regression: the target's name, what was subtracted from it, and by what the difference was
    # divided; three lists for several targets.
    target_name: str | list[str]
    target_mean: float | list[float] = 0.0
    target_std: float | list[float] = 1.0
    augment: Augment | None = None  # shifts and flips
    augmentation: Augmentation | None = None  # everything else
    num_workers: int = 0
    # Makes a batch of what the dataset returns, a list of samples as a rule. A function of your own
    # is set with `collate_fn = staticmethod(my_function)`.
    collate_fn: Callable[[Any], Any] = staticmethod(collate)

    def __init__(self) -> None:
        super().__init__()
        self.datasets: dict[str, Dataset[Batch]] = {}

    def load(self) -> dict[str, Dataset[Batch]]:
        """Read the data, fill the attributes of this class and return the three splits.

        Any map-style or iterable dataset will do. One with a method `__getitems__` that returns a
        whole batch is the fastest for data in memory.
        """
        raise NotImplementedError

    def split(self, samples: Samples) -> dict[str, Indices]:
        """Positions of the train, val and test samples.

        Override it to split by indices of your own, for example by date or from a file. The val and
        test splits may be missing.
        """
        options = self.hparams
        return make_splits(
            samples,
            options["val_fraction"],
            options.get("test_fraction", 0.0),
            options["split_seed"],
            options.get("folds"),
            options.get("fold"),
        )

    def setup(self, stage: str | None = None) -> None:
        """Make the three splits, on the first call only.

        Raises:
            UserError: the arguments or the data cannot be used.
        """
        self.check_arguments()
        if not self.datasets:
            self.datasets = self.load()

    def standardise_target(self, values: NDArray[np.float64], train: Indices) -> Tensor:
        """Set `target_mean` and `target_std` to those of the training samples.

        Args:
            values: of the target, for all samples (N,), in its own unit; of several targets (N, T).
            train: positions of the training samples.

        Returns:
            The standardised values, float32 of the same shape. The originals need 64 bits: with the
            seven digits of float32, 1,700,000,000 and 1,700,000,060 are equal.

        Raises:
            UserError: the training samples all have the same value.
        """
        if isinstance(self.target_name, str):
            self.target_mean, self.target_std = fit_target(self.target_name, values[train])
        else:
            columns = zip(self.target_name, values[train].T, strict=True)
            fitted = [fit_target(name, column) for name, column in columns]
            self.target_mean, self.target_std = map(list, zip(*fitted, strict=True))
        mean, std = np.array(self.target_mean), np.array(self.target_std)
        return torch.from_numpy(((values - mean) / std).astype(np.float32))

    def check_arguments(self) -> None:
        """Raise a UserError for an argument that cannot be used."""
        for name, value in self.hparams.items():
            if check := DATA_CHECKS.get(f"data.{name}"):
                check(f"data.{name}", value)
        folds, fold = self.hparams.get("folds"), self.hparams.get("fold")
        if folds is not None or fold is not None:
            check_folds(folds, fold)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def class_counts(self) -> list[int] | list[list[int]] | None:
        """Training samples of each class; multilabel: [without, with] each label.

        None if the dataset has no `y` or `labels` to count.
        """
        dataset = self.datasets["train"]
        labels = getattr(dataset, "y", getattr(dataset, "labels", None))
        if self.task == "regression" or not isinstance(labels, Tensor):
            return None
        if self.task == "classification":
            return torch.bincount(labels, minlength=self.num_classes).tolist()
        applies = labels.sum(dim=0).long()
        return torch.stack([len(labels) - applies, applies], dim=1).tolist()

    @property
    def num_samples(self) -> dict[str, int]:
        """Number of samples in train, val and test."""
        return {
            split: len(cast(Any, d)) for split, d in self.datasets.items() if hasattr(d, "__len__")
        }

    def fingerprints(self) -> dict[str, dict[str, Any]]:
        """Size and fingerprint of each split, which show whether two runs had the same data.

        A dataset of your own may have a method `fingerprint` too.
        """
        found: dict[str, dict[str, Any]] = {split: {} for split in self.datasets}
        for split, dataset in cast(dict[str, Any], self.datasets).items():
            if hasattr(dataset, "__len__"):
                found[split]["samples"] = len(dataset)
            if hasattr(dataset, "fingerprint"):
                found[split]["fingerprint"] = self._fingerprint(dataset)
        return found

    def _fingerprint(self, dataset: Any) -> str:
        fingerprint = str(dataset.fingerprint())
        if getattr(self, "task", None) == "regression":
            # Standardised targets are equal in any unit.
            text = f"{fingerprint} {self.target_mean!r} {self.target_std!r}"
            fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        return fingerprint

    def describe(self) -> dict[str, Any]:
        """Facts about the data for the model, in plain values, as far as `load` has set them."""
        names = ["task", "input_shape", "preprocessing"]
        if getattr(self, "task", None) == "regression":
            names += ["target_name", "target_mean", "target_std"]
        else:
            names += ["num_classes", "class_names"]
        facts = {name: getattr(self, name) for name in names if hasattr(self, name)}
        return {name: list(f) if isinstance(f, tuple) else f for name, f in facts.items()}

    def train_dataloader(self) -> DataLoader[Any]:
        """Training batches in a new order every epoch."""
        batch_size = self.hparams["batch_size"]
        processes = self.trainer.world_size if self.trainer is not None else 1
        samples = math.ceil(self.num_samples.get("train", 0) / processes)
        # Batch normalisation cannot train on a batch of one.
        drop_last = samples > batch_size and samples % batch_size == 1
        shuffle = not isinstance(self.datasets["train"], IterableDataset)
        loader: DataLoader[Any] = self._loader("train", shuffle, drop_last)
        return loader

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Validation batches; none without a validation split."""
        loader: DataLoader[Any] | list[Any] = self._loader("val")
        return loader

    def test_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Test batches; none without a test split."""
        loader: DataLoader[Any] | list[Any] = self._loader("test")
        return loader

    def _loader(self, split: str, shuffle: bool = False, drop_last: bool = False) -> Any:
        if split not in self.datasets:
            return []  # Lightning then skips it
        return make_loader(
            self.datasets[split],
            self.hparams["batch_size"],  # the batch-size finder changes it between two calls
            shuffle,
            drop_last,
            self.num_workers,
            self.collate_fn,
        )

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment a training batch (B, ...) on the device.

        Here and not in the loader, so that a GPU does the work, and the random numbers are those of
        the seeded epoch and not of a worker process. A run that overfits on purpose needs its
        batches unchanged.
        """
        trainer = self.trainer
        if not self.is_augmenting or trainer is None or not trainer.training:
            return batch
        if trainer.overfit_batches:
            return batch
        x, y = batch
        if self.augment is not None:
            x = self.augment(x)
        return (x, y) if self.augmentation is None else self.augmentation(x, y)

    @property
    def is_augmenting(self) -> bool:
        """Whether training batches are changed at random."""
        augment = self.augment
        is_idle = isinstance(augment, Augment) and not (augment.shift or augment.flip)
        return self.augmentation is not None or (augment is not None and not is_idle)


def fit_target(name: str, values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of a target's training values (N,).

    Raises:
        UserError: they are all the same.
    """
    if values.min() == values.max():
        raise UserError(
            f"The target '{name}' has the same value in every training row: there is nothing to "
            "learn."
        )
    mean = float(values.mean())
    deviations = values - mean
    # In units of the largest, because the square of a tiny number is zero.
    largest = np.abs(deviations).max()
    return mean, float(largest * np.sqrt(np.mean((deviations / largest) ** 2)))
