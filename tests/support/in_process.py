"""Trains with a baked project in this process: starting one would cost seconds a run."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from .modules import project_module
from .training_runs import script

EPOCHS = 6
# 73 x 16 = 1168 training images: every batch is full, so a mean over batches is one over images.
BATCHES = 16
SMALL = (
    "experiment=digits",
    "trainer=cpu",
    "logger=none",
    "model.net.width=8",
    "data.batch_size=73",
    f"trainer.max_epochs={EPOCHS}",
    "callbacks.early_stopping.patience=99",
)
# Keeps the checkpoint of every epoch.
EVERY_EPOCH = (
    "++callbacks.last_checkpoint.save_top_k=-1",
    "++callbacks.last_checkpoint.filename='epoch-{epoch}'",
    "++callbacks.last_checkpoint.auto_insert_metric_name=false",
)


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what `run.json` holds."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """All parts of the metrics in `run.json`."""
        metrics: dict[str, dict[str, float]] = self.manifest["metrics"]
        return metrics

    def saved(self, name: str) -> dict[str, Any]:
        """The content of a checkpoint."""
        import torch

        content: dict[str, Any] = torch.load(
            self.folder / "checkpoints" / f"{name}.ckpt", weights_only=True
        )
        return content

    def weights(self, name: str) -> dict[str, Any]:
        """The weights in a checkpoint."""
        weights: dict[str, Any] = self.saved(name)["state_dict"]
        return weights

    def files(self) -> set[str]:
        """Everything in the folder."""
        paths = self.folder.rglob("*")
        return {path.relative_to(self.folder).as_posix() for path in paths if path.is_file()}


class Project:
    """A baked project whose package is imported here: a process start would cost seconds a run."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder, self.count = root, folder, 0
        self.package = next(root.glob("*/training.py")).parent.name

    def module(self, name: str) -> Any:
        """A module of the package."""
        return project_module(self.package, name)

    def configure(self, config: str, folder: Path, *options: str) -> Any:
        """The config of a command."""
        from hydra import compose, initialize_config_dir
        from omegaconf import open_dict

        self.module("runs.directory").register_resolvers()
        with initialize_config_dir(str(self.root / "configs"), version_base="1.3"):
            cfg = compose(config, list(options))
        with open_dict(cfg):
            cfg.paths.output_dir = str(folder)
        return cfg

    def train(self, *options: str) -> Run:
        """Train in a folder of its own."""
        self.count += 1
        folder = self.folder / str(self.count)
        self.module("training").train(self.configure("train", folder, *SMALL, *options))
        return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))

    def explain(self, *options: str) -> str:
        """The sentence with which a training is refused."""
        with pytest.raises(Exception) as raised:
            self.train(*options)
        sentence = self.module("hydra_errors").explain(raised.value)
        assert isinstance(sentence, str), f"not a sentence but {raised.value!r}"
        return sentence

    def launch(self, *options: str) -> Run:
        """Train in processes of their own, as several processes have to be."""
        self.count += 1
        folder = self.folder / str(self.count)
        command = ("train.py", f"hydra.run.dir={folder}", *SMALL, *options)
        done = script(BakedProject(self.root), *command, check=False, python_path=str(self.folder))
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))

    def evaluate(self, checkpoint: Path, split: str, *options: str) -> dict[str, float]:
        """Measure a checkpoint as its owner would."""
        common = (f"ckpt_path={checkpoint}", f"split={split}", "trainer=cpu", "analyses=[]")
        folder = self.folder / f"{checkpoint.stem}-{split}-{self.count}"
        cfg = self.configure("evaluate", folder, *common, *options)
        metrics: dict[str, float] = self.module("evaluation").evaluate(cfg)
        return metrics


@contextmanager
def on_one_thread(root: Path, folder: Path) -> Iterator[Project]:
    """A baked project whose runs write to `folder`; more threads make small networks slower."""
    import torch
    from hydra.core.hydra_config import HydraConfig

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sys.path.insert(0, str(root))
    # The command of another test.
    HydraConfig.instance().cfg = None
    yield Project(root, folder)
    HydraConfig.instance().cfg = None
    sys.path.remove(str(root))
    torch.set_num_threads(threads)
