"""Training loaders of every kind that torch offers, with data that draw random numbers."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    WeightedRandomSampler,
)

from .blobs import BlobsDataModule


class Augmented(Dataset[Any]):
    """Jitters every sample with three sources of random numbers."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.dataset[index]
        jitter = torch.randn(1) + np.random.rand() + random.gauss(0, 1)
        return x + 0.1 * jitter.float(), y


class Buckets(Sampler[list[int]]):
    """Batches of 4 to 9 neighbours, in an order that NumPy shuffles."""

    def __init__(self, length: int) -> None:
        self.edges = np.cumsum([0, 4, 9, 7, 8, 6, 9, 5, length - 48])

    def __len__(self) -> int:
        return len(self.edges) - 1

    def __iter__(self) -> Iterator[list[int]]:
        for bucket in np.random.permutation(len(self)):
            yield list(range(self.edges[bucket], self.edges[bucket + 1]))


class LoadersDataModule(BlobsDataModule):
    def __init__(self, kind: str = "shuffled", num_workers: int = 0, persistent: bool = False):
        super().__init__(num_workers=num_workers)
        self.kind = kind
        self.workers = {"num_workers": num_workers, "persistent_workers": persistent}
        self.generator = torch.Generator().manual_seed(7)

    def train_dataloader(self) -> Any:
        data = Augmented(self.splits[0])
        n = len(data)
        match self.kind:
            case "shuffled":
                return DataLoader(data, 8, shuffle=True, **self.workers)
            case "dropping":
                return DataLoader(data, 8, shuffle=True, drop_last=True, **self.workers)
            case "weighted":
                sampler = WeightedRandomSampler([1.0 + i % 3 for i in range(n)], n)
                return DataLoader(data, 8, sampler=sampler, **self.workers)
            case "sampler_with_generator":
                sampler = RandomSampler(data, generator=self.generator)
                return DataLoader(data, 8, sampler=sampler, **self.workers)
            case "generator":
                return DataLoader(data, 8, shuffle=True, generator=self.generator, **self.workers)
            case "batch_sampler":
                return DataLoader(data, batch_sampler=Buckets(n), **self.workers)
            case "batches_as_samples":
                sampler = BatchSampler(RandomSampler(data), 8, drop_last=False)
                fetched = [torch.stack([data[i][0] for i in range(n)]), self.labels()]
                return DataLoader(Fetched(*fetched), None, sampler=sampler, **self.workers)
            case "in_order":
                return DataLoader(data, 8, **self.workers)
        raise ValueError(self.kind)

    def labels(self) -> Tensor:
        return torch.stack([y for _, y in self.splits[0]])


class Fetched(Dataset[Any]):
    """Slices whole batches."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.x[indices], self.y[indices]
