"""After an epoch that is the best, the last checkpoint is a copy of the best one."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from ..support.training_runs import is_same
from .conftest import Package, Train

OPTIONS = ("model=mlp", "trainer.max_epochs=6", "scheduler=constant", "optimizer.lr=0.01")
EPOCHS = range(6)
# Changes with the clock.
TIMES = ("time_elapsed",)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint, with the paths of every run alike, and without times."""
    import torch

    return without_times(torch.load(path, weights_only=True), str(path.parent.parent))


def without_times(value: Any, folder: str) -> Any:
    """The value, with `folder` replaced in every text, and without times."""
    if isinstance(value, dict):
        return {
            without_times(key, folder): without_times(part, folder)
            for key, part in value.items()
            if key not in TIMES
        }
    if isinstance(value, list | tuple):
        return [without_times(part, folder) for part in value]
    return value.replace(folder, "run") if isinstance(value, str) else value


@pytest.fixture
def keep(package: Package, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keeps both checkpoints of every epoch beside them; the names of what is copied."""
    copied: list[str] = []
    file = package("runs.checkpoint_file").CheckpointFile
    copy = file.copy_checkpoint

    def note(self: Any, source: Path, path: Path) -> None:
        copied.append(f"{source.name} to {path.name}")
        copy(self, source, path)

    last = package("callbacks").LastCheckpoint
    at_end = last.on_train_epoch_end

    def keep_both(self: Any, trainer: Any, pl_module: Any) -> None:
        at_end(self, trainer, pl_module)
        for path in Path(self.dirpath).glob("*.ckpt"):
            shutil.copy(path, f"{self.dirpath}/{path.stem}_{trainer.current_epoch}.kept")

    monkeypatch.setattr(file, "copy_checkpoint", note)
    monkeypatch.setattr(last, "on_train_epoch_end", keep_both)
    return copied


def test_copy_is_what_would_have_been_saved(
    package: Package, train_here: Train, keep: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run resumed from a copy that lacks something would end differently, without a word."""
    run = train_here("copied", *OPTIONS) / "checkpoints"
    assert set(keep) == {"best.ckpt to last.ckpt"}
    number = len(keep)
    monkeypatch.setattr(package("callbacks").LastCheckpoint, "_equal_checkpoint", lambda *_: None)
    other = train_here("saved", *OPTIONS) / "checkpoints"
    assert len(keep) == number
    alike = 0
    for epoch in EPOCHS:
        name = f"last_{epoch}.kept"
        found, expected = load(run / name), load(other / name)
        assert found["epoch"] == epoch
        assert found.keys() == expected.keys()
        for part in found:
            assert is_same(found[part], expected[part]), (epoch, part)
        alike += (run / name).read_bytes() == (run / f"best_{epoch}.kept").read_bytes()
    # The first one does not know its own path yet.
    assert 0 < number == alike


def test_averaged_weights_are_not_those_in_training(
    package: Package, train_here: Train, keep: list[str]
) -> None:
    """With EMA the best checkpoint has other weights; trained on, they would be another network."""
    run = train_here("averaged", *OPTIONS, "callbacks=[default,ema]") / "checkpoints"
    assert keep == []
    best, last = load(run / "best_0.kept"), load(run / "last_0.kept")
    assert best["epoch"] == last["epoch"] == 0
    assert not is_same(best["state_dict"], last["state_dict"])


def test_best_without_optimizer_is_not_resumed_from(
    package: Package, train_here: Train, keep: list[str]
) -> None:
    """Someone saves space with weights alone: the other checkpoint still has all."""
    options = (*OPTIONS, "+callbacks.best_checkpoint.save_weights_only=true")
    run = train_here("weights", *options) / "checkpoints"
    assert keep == []
    assert "optimizer_states" not in load(run / "best_0.kept")
    assert all("optimizer_states" in load(run / f"last_{epoch}.kept") for epoch in EPOCHS)


def test_a_checkpoint_between_them_is_not_forgotten(
    package: Package, train_here: Train, keep: list[str]
) -> None:
    """A copy of the best one would not know what the checkpoint after it has just saved."""
    # Lightning calls them in this order.
    options = (
        "callbacks.last_checkpoint=null",
        "+callbacks.other._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        "+callbacks.other.monitor=val/loss",
        "+callbacks.other.filename=other",
        "+callbacks.other.dirpath=${paths.output_dir}/checkpoints",
        "+callbacks.other.save_on_train_epoch_end=true",
        "+callbacks.z._target_=workbench.callbacks.LastCheckpoint",
        "+callbacks.z.filename=last",
        "+callbacks.z.enable_version_counter=false",
        "+callbacks.z.dirpath=${paths.output_dir}/checkpoints",
        "+callbacks.z.save_on_train_epoch_end=true",
    )
    run = train_here("between", *OPTIONS, *options)
    assert keep == []
    for epoch in EPOCHS:
        states = load(run / "checkpoints" / f"last_{epoch}.kept")["callbacks"]
        (other,) = (state for state in states.values() if state.get("monitor") == "val/loss")
        score = min(row["val/loss"] for row in states["MetricHistory"]["rows"])
        assert float(other["best_model_score"]) == score
