"""Whole batches at once.

A DataLoader normally asks its dataset for one sample after the other and stacks them. For data
that fit in memory one indexing operation fetches the batch, which takes a fraction of the time.
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

Batch = tuple[Tensor, Tensor]

# Lightning advises workers for every loader. Data in memory are slower with them, and a folder of
# pictures has as many as the machine has cores.
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
        chosen = torch.tensor(indices)
        x = self.x[chosen]
        if self.transform is not None:
            x = self.transform(x)
        return x, self.y[chosen]

    def __getitem__(self, index: int) -> Batch:
        x, y = self.__getitems__([index])
        return x[0], y[0]

    def fingerprint(self) -> str:
        """The same for the same samples in the same order; a tenth of a second for CIFAR-10."""
        content = hashlib.sha256(self.x.contiguous().numpy().data)
        content.update(self.y.contiguous().numpy().data)
        return content.hexdigest()[:16]


def collate(samples: Any) -> Any:
    """Make a batch of what a dataset returns.

    A list of samples becomes a batch in PyTorch's usual way. Anything else comes from a dataset
    whose `__getitems__` returns whole batches.
    """
    return default_collate(samples) if isinstance(samples, list) else samples


def make_loader(
    dataset: Dataset[Batch],
    batch_size: int,
    shuffle: bool = False,
    drop_last: bool = False,
    num_workers: int = 0,
    collate_fn: Callable[[Any], Any] = collate,
) -> DataLoader[Any]:
    """A loader over any dataset; one whose `__getitems__` returns whole batches is the fastest.

    Args:
        dataset: map-style or iterable.
        batch_size: samples in a batch.
        shuffle: a new order every epoch, from torch's global random numbers.
        drop_last: leave out a last batch that is not full.
        num_workers: processes that prepare batches; 0 for data in memory.
        collate_fn: makes a batch of a list of samples.
    """
    options: dict[str, Any] = {}
    if num_workers > 0:
        # Starting processes anew every epoch costs more than keeping them. Pinned memory only
        # helps a copy to a CUDA device.
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
