"""The random numbers of the epochs: no two epochs are alike, and each can be repeated."""

from itertools import pairwise
from typing import Any

from .conftest import Package


def epochs_of(package: Package, seed: int) -> list[tuple[list[int], float]]:
    """For each of three epochs, the order of the samples and a number from the global generator."""
    import torch
    from pytorch_lightning import LightningModule, Trainer
    from torch.utils.data import DataLoader, TensorDataset

    class Recorder(LightningModule):
        """Trains one weight, and remembers what it is given."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(()))
            self.orders: list[list[int]] = []
            self.drawn: list[float] = []

        def on_train_epoch_start(self) -> None:
            self.orders.append([])

        def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> Any:
            if batch_idx == 0:
                self.drawn.append(torch.rand(()).item())
            self.orders[-1] += batch[0].tolist()
            return self.weight.square()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.01)

    model = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[package("callbacks.seeds").EpochSeed(seed)],
    )
    samples = TensorDataset(torch.arange(40))
    trainer.fit(model, DataLoader(samples, batch_size=8, shuffle=True))
    return list(zip(model.orders, model.drawn, strict=True))


def test_every_epoch_draws_its_own_order_and_noise(package: Package) -> None:
    """With one order for all epochs, a network sees the same batches and the same dropout again."""
    epochs = epochs_of(package, seed=0)
    assert all(sorted(order) == list(range(40)) for order, _ in epochs)
    for (order, drawn), (later_order, later_drawn) in pairwise(epochs):
        assert order != later_order
        assert drawn != later_drawn


def test_epochs_depend_on_the_seed_alone(package: Package) -> None:
    """A seed that changes nothing measures no spread; one that does not repeat, no experiment."""
    epochs = epochs_of(package, seed=0)
    assert epochs == epochs_of(package, seed=0)
    for (order, drawn), (other_order, other_drawn) in zip(
        epochs, epochs_of(package, seed=1), strict=True
    ):
        assert order != other_order
        assert drawn != other_drawn
