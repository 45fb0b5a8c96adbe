"""Trainings in this process, shared by the tests of callbacks: starting one takes longer."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ..conftest import Bake, BakedProject
from ..support.in_process import Project, on_one_thread
from ..support.modules import project_module

Package = Callable[[str], Any]
Train = Callable[..., Path]
SHORT = (
    "trainer=cpu",
    "trainer.limit_train_batches=5",
    "trainer.limit_val_batches=1",
    "trainer.log_every_n_steps=1",
    "logger=csv",
    "test=false",
)


@pytest.fixture(scope="module")
def package(demo: BakedProject) -> Iterator[Package]:
    """Imports a module of the baked project."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(demo.root)
        project_module("demo", "runs.directory").register_resolvers()
        yield lambda name: project_module("demo", name)
    torch.set_num_threads(threads)


@pytest.fixture
def train_here(package: Package, demo: BakedProject, tmp_path: Path) -> Train:
    """Trains in this process: `train_here("name", "trainer.max_epochs=2")` returns the folder."""

    def trained(name: str, *options: str) -> Path:
        from hydra import compose, initialize_config_dir
        from omegaconf import open_dict

        folder = tmp_path / name
        with initialize_config_dir(str(demo.root / "configs"), version_base="1.3"):
            cfg = compose("train", [*SHORT, *options])
        with open_dict(cfg):
            cfg.paths.output_dir = str(folder)
            cfg.paths.log_dir = str(tmp_path)
        package("training").train(cfg)
        return folder

    return trained


@pytest.fixture
def toy(package: Package) -> Callable[..., Any]:
    """Trains two layers on noise and returns the model and what a logger got.

    `between` is what happens to the first layer's output.
    """
    import torch
    from pytorch_lightning import LightningModule, Trainer
    from pytorch_lightning.loggers import Logger
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, TensorDataset

    class Memory(Logger):
        """Remembers what it is told."""

        def __init__(self) -> None:
            super().__init__()
            self.rows: list[tuple[int, dict[str, float]]] = []

        @property
        def name(self) -> str:
            return "memory"

        @property
        def version(self) -> str:
            return ""

        def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
            """Not needed."""

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            """Remember."""
            self.rows.append((step or 0, dict(metrics)))

    class Toy(LightningModule):
        """Two layers."""

        def __init__(self, between: Callable[[Tensor], Tensor], lr: float) -> None:
            super().__init__()
            self.first = nn.Linear(4, 8)
            self.relu = nn.ReLU()
            self.last = nn.Linear(8, 1)
            self.between, self.lr = between, lr

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.last(self.relu(self.between(self.first(x))))
            return output

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self(batch[0]).square().mean()

        def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
            self(batch[0])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    def fit(
        *callbacks: Any,
        between: Callable[[Tensor], Tensor] = lambda x: x,
        prepare: Callable[[Any], None] = lambda model: None,
        data: Tensor | None = None,
        lr: float = 0.01,
        ckpt_path: Path | None = None,
        **options: Any,
    ) -> Any:
        torch.manual_seed(0)
        x = torch.randn(12, 4) if data is None else data
        model, memory = Toy(between, lr), Memory()
        prepare(model)
        trainer = Trainer(
            accelerator="cpu",
            logger=memory,
            callbacks=list(callbacks),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **{"max_epochs": 1, "log_every_n_steps": 1} | options,
        )
        loader = DataLoader(TensorDataset(x), batch_size=4)
        trainer.fit(model, loader, loader, ckpt_path=ckpt_path)
        return SimpleNamespace(model=model, rows=memory.rows, trainer=trainer)

    return fit


def columns(folder: Path) -> dict[str, list[float]]:
    """All values of every column of metrics.csv, without the gaps."""
    values: dict[str, list[float]] = {}
    with (folder / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value:
                    values.setdefault(name, []).append(float(value))
    return values


def checkpoint(folder: Path, name: str = "last") -> dict[str, Any]:
    """The content of a checkpoint."""
    import torch

    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


@pytest.fixture(scope="module")
def project(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project whose package no other test imports, with a small network."""
    root = bake(project_name="Steered", package_name="package_of_steering_tests").root
    with on_one_thread(root, tmp_path_factory.mktemp("steering")) as project:
        yield project
