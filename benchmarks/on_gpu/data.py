"""Data: made-up images in place of CIFAR-10, which lie on the device, and a text.

The windows of a text are gathered on the CPU, as the project does, and copied to the device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from ..common import Project
from .size import Size

# The help texts have 465,000 characters in Python 3.11.
TIMES = 5


def use_made_up_images(project: Project, size: Size) -> None:
    """Let the project read made-up images in place of CIFAR-10."""
    # Here, so that the processes that are forked from this one have them.
    noise(size.train + size.val + size.batch_size)
    data = project.module("data.torchvision_images").CIFAR10DataModule
    data.prepare_data = lambda self: None
    data.read = lambda self: made_up_images(project, size)


@cache
def noise(count: int) -> Any:
    """Pixels in the shape of CIFAR-10's."""
    import torch

    torch.manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)


def made_up_images(project: Project, size: Size) -> Any:
    """Noise in the shape of CIFAR-10, with a test split of the size of a batch."""
    import torch

    count = size.train + size.val + size.batch_size
    pixels = noise(count)
    labels = torch.arange(count) % size.classes
    names = [f"class {number}" for number in range(size.classes)]
    return project.library("data.image_arrays").ImageArrays(
        pixels, labels, names, test_count=size.batch_size
    )


def put_images_on_device(project: Project, device: str) -> None:
    """Let the project's training move images to the device before it begins."""
    training = project.module("training")
    plain = training.build_datamodule

    def build(cfg: Any) -> Any:
        datamodule = plain(cfg)
        for dataset in filter(holds_arrays, datamodule.datasets.values()):
            move(dataset, device)
            move(dataset.transform, device)
        return datamodule

    training.build_datamodule = build


def holds_arrays(dataset: Any) -> bool:
    """Whether a dataset holds samples and targets, so that they can lie on any device."""
    return all(hasattr(dataset, name) for name in ("x", "y", "transform"))


def move(owner: Any, device: str) -> None:
    """Move the tensors of an object."""
    import torch

    for name, value in vars(owner).items():
        if isinstance(value, torch.Tensor):
            setattr(owner, name, value.to(device))


def write_text(path: Path) -> None:
    """Write the help texts of Python, which the project reads by default, several times over."""
    from pydoc_data.topics import topics

    path.write_text(TIMES * "".join(topics.values()), "utf-8")


@dataclass(frozen=True)
class OnDevice:
    """Batches of a loader, gathered on the device if the data are there.

    Attributes:
        loader: of the project.
        device: where the batches are needed.
        limit: their number; None for all.
        shuffles: whether each epoch has an order of its own.
    """

    loader: Any
    device: str
    limit: int | None
    shuffles: bool

    def __len__(self) -> int:
        return len(self.loader) if self.limit is None else min(self.limit, len(self.loader))

    def __iter__(self) -> Iterator[Any]:
        dataset = self.loader.dataset
        batches = self.gathered(dataset) if holds_arrays(dataset) else self.copied()
        return islice(batches, len(self))

    def gathered(self, dataset: Any) -> Iterator[Any]:
        """Batches whose order is drawn on the device."""
        import torch

        order = torch.randperm if self.shuffles else torch.arange
        every = order(len(dataset), device=dataset.x.device)
        for chosen in every.split(self.loader.batch_size):  # type: ignore[no-untyped-call]
            yield dataset.transform(dataset.x[chosen]), dataset.y[chosen]

    def copied(self) -> Iterator[Any]:
        """Batches that come from the CPU."""
        for batch in self.loader:
            yield tuple(tensor.to(self.device, non_blocking=True) for tensor in batch)
