"""Tables that fit in memory: diabetes, and the user's own CSV."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..errors import UserError
from .base import BaseDataModule
from .batches import Batch, BatchDataset
from .splits import Indices, Samples
from .tables import Column, Numbers, encode_table, table_preprocessing

log = logging.getLogger(__name__)


@dataclass
class TableArrays:
    """Rows of all parts.

    Args:
        columns: name -> values of the columns that the model may see.
        target: class numbers or values to predict (N,); labels 0 and 1 or values of several
            columns (N, T).
        target_name: name of the target's column; a list for several.
        class_names: in the order of the class numbers or labels; None for a regression.
        groups: any values (N,); rows with equal values stay in one split. None if rows are
            independent of each other.
        given: splits that the table names, as positions of rows.
    """

    columns: Mapping[str, Column]
    target: NDArray[np.int64] | NDArray[np.float64]
    target_name: str | list[str]
    class_names: list[str] | None = None
    groups: NDArray[Any] | None = None
    given: Mapping[str, Indices] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What kind of target it is."""
        if self.class_names is None:
            return "regression"
        return "classification" if self.target.ndim == 1 else "multilabel"


class TableDataModule(BaseDataModule):
    """Rows of a table, encoded once.

    A subclass offers `read` and has the arguments batch_size, val_fraction, test_fraction and
    split_seed.
    """

    def read(self) -> TableArrays:
        """All rows."""
        raise NotImplementedError

    def load(self) -> dict[str, Dataset[Batch]]:
        """Split the rows, take the statistics of the training part and encode with them."""
        table = self.read()
        check_finite(table)
        parts = self.split(samples_of(table))
        self.preprocessing = table_preprocessing(table.columns, parts["train"])
        check_memory(len(table.target), len(self.preprocessing["features"]))
        x = encode_table(self.preprocessing, table.columns)
        check_range(x, self.preprocessing["features"])
        self.input_shape = (x.shape[1],)
        y = self._read_target(table, parts["train"])
        return {part: BatchDataset(x[chosen], y[chosen]) for part, chosen in parts.items()}

    def _read_target(self, table: TableArrays, train: Indices) -> Tensor:
        self.task, self.target_name = table.task, table.target_name
        if table.class_names is None:
            return self.standardise_target(table.target.astype(np.float64), train)
        self.class_names = table.class_names
        if self.task == "classification":
            return torch.from_numpy(table.target.astype(np.int64))
        report_absent(table.class_names, table.target[train])
        return torch.from_numpy(table.target.astype(np.float32))


def samples_of(table: TableArrays) -> Samples:
    """What the split of rows depends on."""
    labels = table.target.astype(np.int64) if table.task == "classification" else None
    names = table.class_names or ()
    return Samples(len(table.target), labels, names, table.groups, table.given)


def report_absent(names: Sequence[str], labels: NDArray[Any]) -> None:
    """Warn of labels that are the same in all training samples (N, L)."""
    lowest, highest = labels.min(axis=0), labels.max(axis=0)
    if absent := [name for name, a, b in zip(names, lowest, highest, strict=True) if a == b]:
        log.warning(
            "Labels that are the same in every training row, so that nothing is learned about "
            "them: %s",
            ", ".join(absent),
        )


def check_memory(rows: int, features: int) -> None:
    """Raise a UserError if the inputs and their three parts do not fit into memory."""
    needed, free = 2 * 4 * rows * features, psutil.virtual_memory().available
    if needed > free:
        raise UserError(
            f"{rows} rows of {features} inputs take {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB "
            "of memory are free: leave out columns of many categories with data.drop."
        )


def check_range(x: Tensor, features: list[str]) -> None:
    """Raise a UserError that names a feature too far from its training values."""
    if not torch.isfinite(torch.stack(x.aminmax())).all():
        row, place = torch.isfinite(x).logical_not().nonzero()[0].tolist()
        raise UserError(
            f"'{features[place]}' is too far from its values in the training part to be a 32-bit "
            f"number in sample {row}, counted from 0: mend or remove this sample."
        )


def check_finite(table: TableArrays) -> None:
    """Raise a UserError that names the first sample with infinity, or without a target, in it."""
    wrong = {name: np.isinf(values) for name, values in table.columns.items() if _numeric(values)}
    if isinstance(table.target_name, str):
        wrong[table.target_name] = ~np.isfinite(table.target)
    else:
        wrong |= dict(zip(table.target_name, ~np.isfinite(table.target.T), strict=True))
    for name, samples in wrong.items():
        if samples.any():
            raise UserError(
                f"'{name}' is not a finite number in sample {samples.argmax()}, counted from 0 "
                f"({samples.sum()} of {len(samples)} samples): mend or remove these samples."
            )


def _numeric(values: Column) -> TypeGuard[Numbers]:
    return isinstance(values, np.ndarray)
