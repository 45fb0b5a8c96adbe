"""Whole batches at once.

A DataLoader normally asks its dataset for one sample after the other and stacks them. For data
that fit in memory one indexing operation fetches the batch, which takes a fraction of the time.
Lightning can still replace the sampler, so the same loader works with several processes.
"""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, default_collate

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


class BatchLoader(DataLoader[Batch]):
    """A DataLoader that takes one random number for each epoch, when the first batch is asked for.

    The plain loader takes an additional one when it starts its workers, and may do so long before:
    Lightning makes the iterator of a run's first epoch before that epoch is seeded. The epoch in
    which a run is resumed would then be in another order than in the run that never stopped.

    That number and the count of batches are the loader's state, so an epoch can be resumed after
    any batch.
    """

    _state: dict[str, int] | None = None
    _resumed: dict[str, int] | None = None

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches of one epoch, or those that are left of a resumed one."""
        state, self._resumed = self._resumed, None
        if state is None:
            state = {"seed": int(torch.empty((), dtype=torch.int64).random_()), "batches": 0}
        self.generator = torch.Generator().manual_seed(state["seed"])
        if isinstance(self.sampler, RandomSampler):
            self.sampler.generator = torch.Generator().manual_seed(state["seed"])
        self._state = state
        for batch in self._batches_after(state["batches"]):
            self._state = self._state | {"batches": self._state["batches"] + 1}
            yield batch

    def _batches_after(self, count: int) -> Iterator[Batch]:
        batches: Any = super().__iter__()
        for _ in range(count):
            if self.num_workers == 0:
                batches._next_index()  # the samples themselves need not be fetched
            else:
                next(batches)
        return cast(Iterator[Batch], batches)

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands; empty before the first batch."""
        return dict(self._state or {})

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue an epoch: the next iteration yields the batches that are left of it."""
        self._resumed = dict(state_dict) or None


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
) -> BatchLoader:
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
    return BatchLoader(
        dataset,
        batch_size=batch_size,
        shuffle=shuffle,
        drop_last=drop_last,
        num_workers=num_workers,
        collate_fn=collate_fn,
        **options,
    )
