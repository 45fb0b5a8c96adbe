"""Batches of every structure: dictionaries with texts, lists, dataclasses, own objects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

WORDS = ("good", "bad", "fine", "poor", "nice")


class Reviews(Dataset[Any]):
    """Short texts and whether they praise."""

    def __init__(self, count: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.tokens = torch.randint(len(WORDS), (count, 6), generator=random)

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, Any]:
        tokens = self.tokens[index]
        return {
            "text": " ".join(WORDS[token] for token in tokens),
            "tokens": tokens,
            "label": (tokens % 2 == 0).sum() > 3,
            "meta": {"index": index, "source": "shop"},
        }


class Sequences(Dataset[Any]):
    """Sequences of different lengths and whether their mean is positive."""

    def __init__(self, count: int, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        lengths = torch.randint(2, 9, (count,), generator=random).tolist()
        self.sequences = [torch.randn(length, 4, generator=random) for length in lengths]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        sequence = self.sequences[index]
        return sequence, (sequence.mean() > 0).float()


@dataclass
class Padded:
    """Sequences (B, T, 4), which of their places are real (B, T), and labels (B,)."""

    x: Tensor
    mask: Tensor
    y: Tensor
    name: str = "padded"


class Graphs:
    """Nodes of several graphs in one tensor, as graph libraries batch them; not a collection."""

    def __init__(self, nodes: Tensor, graph: Tensor, y: Tensor) -> None:
        self.nodes, self.graph, self.y = nodes, graph, y

    def to(self, device: Any) -> "Graphs":
        return Graphs(self.nodes.to(device), self.graph.to(device), self.y.to(device))


def as_lists(samples: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """Lists of tensors of different lengths, as detection models take them."""
    return [x for x, _ in samples], [y for _, y in samples]


def as_dataclass(samples: list[Any]) -> Padded:
    x = torch.nn.utils.rnn.pad_sequence([x for x, _ in samples], batch_first=True)
    lengths = torch.tensor([len(x) for x, _ in samples])
    mask = torch.arange(x.shape[1])[None] < lengths[:, None]
    return Padded(x, mask, torch.stack([y for _, y in samples]))


def as_graphs(samples: list[Any]) -> Graphs:
    lengths = torch.tensor([len(x) for x, _ in samples])
    return Graphs(
        torch.cat([x for x, _ in samples]),
        torch.arange(len(samples)).repeat_interleave(lengths),
        torch.stack([y for _, y in samples]),
    )


class ReviewsDataModule(LightningDataModule):
    num_words = len(WORDS)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.train, self.val = Reviews(40, 1), Reviews(16, 2)
        if stage == "validate":
            self.val = Reviews(16, 2)
        if stage in ("test", "predict"):
            self.test = Reviews(16, 3)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train, batch_size=8, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.val, batch_size=8)

    def test_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.test, batch_size=8)

    def predict_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.test, batch_size=8)


class SequencesDataModule(LightningDataModule):
    collate: Callable[[list[Any]], Any]

    def __init__(self, structure: str = "lists") -> None:
        super().__init__()
        self.collate = {"lists": as_lists, "dataclass": as_dataclass, "graphs": as_graphs}[
            structure
        ]

    def loader(self, count: int, seed: int, **options: Any) -> DataLoader[Any]:
        data = Sequences(count, seed)
        return DataLoader(data, batch_size=8, collate_fn=self.collate, **options)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(40, 1, shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(16, 2)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader(16, 3)

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.loader(16, 3)
