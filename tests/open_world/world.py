"""A generated project with the code of `added/`, whose runs are trained in this process."""

import json
import shutil
import signal
from collections.abc import Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.in_process import Project, Run
from ..support.training_runs import is_same
from .cases import CASES

ADDED = Path(__file__).with_name("added")
PACKAGE = "their_project"
SMALL = (
    "name=case",
    "trainer=cpu",
    "trainer.max_epochs=3",
    "logger=none",
    "trainer.log_every_n_steps=2",
)
# What a checkpoint holds of a training, without times and paths.
PARTS = ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers")


def some_fast(names: Iterable[str], fast: Collection[str]) -> list[Any]:
    """All names; those that are not among the fast ones are slow."""
    return [n if n in fast else pytest.param(n, marks=pytest.mark.slow) for n in names]


def add_code(project: BakedProject) -> None:
    """Copy `added/` over a project."""
    shutil.copytree(ADDED, project.root, dirs_exist_ok=True)
    (project.root / "data").mkdir(exist_ok=True)
    lines = (f"the cat number {i % 7} sat on mat {i % 5}" for i in range(100))
    (project.root / "data" / "wikitext-2.txt").write_text("\n".join(lines), "utf-8")


class World(Project):
    """Trains cases, whole and in pieces."""

    def __init__(self, root: Path, folder: Path) -> None:
        super().__init__(root, folder)
        # Each case is trained once for all tests.
        self.whole = cache(self._whole)

    def train(self, *options: str) -> Run:
        """Train in a folder of its own."""
        self.count += 1
        folder = self.folder / str(self.count)
        self.module("training").train(self.configure("train", folder, *SMALL, *options))
        return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))

    def _whole(self, name: str) -> Run:
        return self.train(*CASES[name].command, "logger=[csv,tensorboard]")

    def crash(self, batch: int, *options: str) -> Run:
        """Train until an error in a batch, counted from 1 over the epochs."""
        return self._end_early(
            RuntimeError, f"tests.support.at_batch.Crash,batch:{batch}", *options
        )

    def interrupt(self, batch: int, *options: str) -> Run:
        """Train until Ctrl-C in a batch, counted from 1 over the epochs."""
        # Lightning ignores Ctrl-C for good once it has handled one.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        target = f"tests.support.at_batch.SendSignal,batch:{batch},number:{int(signal.SIGINT)}"
        try:
            return self._end_early(SystemExit, target, *options)
        finally:
            signal.signal(signal.SIGINT, before)

    def _end_early(self, error: type[BaseException], target: str, *options: str) -> Run:
        with pytest.raises(error):
            self.train(*options, f"+callbacks.end={{_target_:{target}}}")
        folder = self.folder / str(self.count)
        return Run(folder, json.loads((folder / "run.json").read_text("utf-8")))

    def in_pieces(self, batches: int, *options: str, within: bool = True) -> Run:
        """Train with a crash after the first epoch and Ctrl-C within the second one."""
        run = self.crash(batches + 1, *options)
        if within:
            run = self.interrupt(batches + 3, *options, resume(run))
        return self.train(*options, resume(run))


def resume(run: Run) -> str:
    """The option that resumes a run."""
    return f"ckpt_path={run.folder}/checkpoints/last.ckpt"


def assert_same(run: Run, whole: Run) -> None:
    """The same weights, optimizers, schedules, best epoch and metrics, to the last bit."""
    names = {path.stem for path in (whole.folder / "checkpoints").iterdir()}
    assert names == {path.stem for path in (run.folder / "checkpoints").iterdir()}
    for name in names:
        one, other = run.saved(name), whole.saved(name)
        for part in PARTS:
            # Averaged weights have no optimizer.
            assert is_same(one.get(part), other.get(part)), (name, part)
        for key, state in other.get("callbacks", {}).items():
            if key != "TimeLimit" and "Checkpoint{" not in key:
                # As text: a NaN differs from itself.
                assert str(one["callbacks"][key]) == str(state), (name, key)
    assert str(run.metrics) == str(whole.metrics)


def plain_test(world: World, name: str, checkpoint: Path) -> dict[str, float]:
    """What Lightning alone measures on the test data with the weights of a checkpoint."""
    trainer, model, datamodule = plain_parts(world, name)
    trainer.test(model, datamodule, ckpt_path=checkpoint, verbose=False, weights_only=True)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def plain_predictions(world: World, name: str, checkpoint: Path) -> Any:
    """What Lightning alone returns for the loader of the predictions."""
    trainer, model, datamodule = plain_parts(world, name)
    return trainer.predict(model, datamodule, ckpt_path=checkpoint, weights_only=True)


def plain_parts(world: World, name: str) -> tuple[Any, Any, Any]:
    """Trainer, model and data of a case, built without this project."""
    from hydra.utils import instantiate
    from pytorch_lightning import Trainer, seed_everything

    case = CASES[name]
    cfg = world.configure("train", world.folder / "plain", *SMALL, *case.command)
    seed_everything(cfg.seed, verbose=False)
    datamodule = instantiate(cfg.data, _convert_="all")
    facts = {fact: getattr(datamodule, fact) for fact in case.facts}
    model = instantiate(cfg.model, **facts, _convert_="all")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", **quiet), model, datamodule  # type: ignore[arg-type]
