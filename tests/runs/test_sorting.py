"""NaN compares with nothing: wherever the best is chosen or rows are sorted, it comes last."""

import itertools
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ..conftest import BakedProject
from ..support.modules import project_module

NAN = math.nan


@pytest.fixture
def module(demo: BakedProject, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports modules of the demo's package into this process."""
    monkeypatch.syspath_prepend(demo.root)

    def load(name: str) -> ModuleType:
        return project_module("demo", name)

    return load


def test_table_of_runs_is_sorted_although_one_diverged(module: Any) -> None:
    """Somewhere in an unsorted table the best run is overlooked."""
    table = module("runs.table")
    for values in itertools.permutations([0.2, NAN, 0.9, None, 0.5]):
        rows = table.sort_rows([{"run": str(value), "best": value} for value in values], "best")
        assert [row["run"] for row in rows[:3]] == ["0.9", "0.5", "0.2"], values
        assert {row["run"] for row in rows[3:]} == {"nan", "None"}, values


def test_manifest_with_nan_is_sorted_last(module: Any, tmp_path: Path) -> None:
    """The same with what is really written: JSON has no NaN, and Python writes it all the same."""
    table = module("runs.table")
    for name, loss in (("a", 0.3), ("b", NAN), ("c", 0.4), ("d", 0.1)):
        (tmp_path / name).mkdir()
        manifest = {
            "status": "finished",
            "started": f"2026-01-01T00:00:0{ord(name) - 97}+00:00",
            "config": {"objective": {"metric": "val/loss"}},
            "metrics": {"final": {"val/loss": loss}},
        }
        (tmp_path / name / "run.json").write_text(json.dumps(manifest))
    rows = table.sort_rows(table.collect_rows(tmp_path), "final")
    assert [row["run"] for row in rows] == ["c", "a", "d", "b"]


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("losses", list(itertools.permutations([0.2, NAN, 0.9])), ids=str)
def test_best_epoch_is_never_one_without_a_number(
    module: Any, losses: list[float], mode: str
) -> None:
    history = module("callbacks").MetricHistory()
    history.rows = [{"step": i, "val/loss": loss} for i, loss in enumerate(losses)]
    assert history.best("val/loss", mode)["val/loss"] == (0.2 if mode == "min" else 0.9)


@pytest.mark.parametrize("losses", list(itertools.permutations([0.2, NAN, 0.9])), ids=str)
def test_marked_epoch_has_the_lowest_loss(module: Any, losses: list[float]) -> None:
    """An epoch without a number is the worst of all."""
    rows = [{"epoch": float(i), "val/loss": loss} for i, loss in enumerate(losses)]
    (axes,) = module("callbacks.loss_curves").draw_loss_curves(rows).axes
    label = axes.get_lines()[-1].get_label()
    assert label == f"lowest validation: 0.2 in epoch {losses.index(0.2) + 1}"


@pytest.mark.parametrize("losses", [(NAN, 0.2, 0.9), (0.9, NAN, 0.2)], ids=str)
def test_best_checkpoint_is_of_an_epoch_with_a_number(
    module: Any, losses: list[float], tmp_path: Path
) -> None:
    """A first epoch without a number must not stay the best one."""
    from pytorch_lightning import LightningModule, Trainer

    class Model(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.log("val/loss", losses[self.current_epoch])
            return self.weight.sum() * 0

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    best = module("callbacks").BestCheckpoint(
        dirpath=tmp_path,
        filename="best",
        monitor="val/loss",
        mode="min",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        logger=False,
        callbacks=[best],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = torch.utils.data.DataLoader([torch.zeros(1)])  # type: ignore[arg-type, var-annotated]
    trainer.fit(Model(), data)
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["epoch"] == losses.index(0.2)
