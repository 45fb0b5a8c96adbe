"""Whole batches at once.

A DataLoader normally requests one sample after another from its dataset and stacks them. For data
that fit in memory, a single indexing operation fetches the batch in a fraction of the time.
Lightning can still replace the sampler, so the same loader works with several processes.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from ..checks import is_integer, require
from ..machine import usable_cores

Batch = tuple[Tensor, Tensor]
# The targets in a batch that is a dictionary.
LABEL = "label"

# Reading images seldom gets faster with more, and a container often shows more cores than it may
# use.
MOST_WORKERS = 8

# Lightning recommends workers for every loader. Data in memory are slower with them, and a folder
# of images uses all cores anyway.
warnings.filterwarnings("ignore", message=".*does not have many workers.*")


class BatchDataset(Dataset[Batch]):
    """Samples in memory, fetched by the batch.

    Args:
        x: inputs (N, ...).
        y: targets (N,).
        transform: applied to the inputs of a batch (B, ...), for example `Normalise`.
    """

    def __init__(
        self, x: Tensor, y: Tensor, transform: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.x, self.y, self.transform = x, y, transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitems__(self, indices: list[int]) -> Batch:
        """The batch of these samples; PyTorch calls this instead of `__getitem__`."""
        # With data on a GPU, a blocking copy of the indices would wait for all that it has to do.
        chosen = torch.tensor(indices).to(self.x.device, non_blocking=True)
        x = self.x[chosen]
        if self.transform is not None:
            x = self.transform(x)
        return x, self.y[chosen]

    def __getitem__(self, index: int) -> Batch:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def fingerprint(self) -> str:
        """Equal for the same samples in the same order; takes 0.1 s for CIFAR-10."""
        content = hashlib.sha256(self.x.cpu().contiguous().numpy().data)
        content.update(self.y.cpu().contiguous().numpy().data)
        return content.hexdigest()[:16]


def collate(samples: Any) -> Any:
    """A batch of what a dataset returns: samples to collate, or a batch from `__getitems__`."""
    return default_collate(samples) if isinstance(samples, list) else samples


def inputs_and_targets(batch: Any) -> tuple[Any, Any]:
    """The inputs and the targets of a batch: (x, y), or a dictionary with the targets as `label`.

    The inputs of a dictionary are its other entries, and targets that it does not have are None.
    """
    if isinstance(batch, Mapping):
        return {name: part for name, part in batch.items() if name != LABEL}, batch.get(LABEL)
    x, y = batch
    return x, y


def make_loader(
    dataset: Dataset[Batch],
    batch_size: int,
    shuffle: bool = False,
    drop_last: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[Any], Any] = collate,
) -> DataLoader[Any]:
    """A loader for any map-style or iterable dataset, shuffled with torch's global generator."""
    options: dict[str, Any] = {}
    if num_workers > 0:
        # Restarting processes every epoch costs more than keeping them. Pinned memory only speeds
        # up copies to a CUDA device.
        options = {"persistent_workers": True, "pin_memory": torch.cuda.is_available()}
    return DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **options,
    )


def choose_workers(num_workers: Any, processes: int = 1) -> int:
    """The number of worker processes of one loader.

    Args:
        num_workers: a number, or "auto" for the usable cores divided among training processes.
        processes: training processes on this machine.

    Raises:
        UserError: it is neither.
    """
    if num_workers == "auto":
        cores = usable_cores() // processes
        # A worker that shares the only core with the training only adds overhead.
        return min(cores, MOST_WORKERS) if cores > 1 else 0
    require(
        is_integer(num_workers, 0),
        "data.num_workers",
        "'auto' or an integer of at least 0",
        num_workers,
    )
    return int(num_workers)


def tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in nested sequences, mappings and dataclasses, such as a batch."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from tensors(list(values.values()))
    elif isinstance(values, Sequence) and not isinstance(values, str | bytes):
        for value in values:
            yield from tensors(value)
    elif is_dataclass(values) and not isinstance(values, type):
        for field in fields(values):
            yield from tensors(getattr(values, field.name))
