"""Real trainings that pause and are promoted: the same weights, and nothing lost by kills."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import BakedProject
from ..support.own_data import write_fruit
from ..support.promoted import OPTIONS, TRAINING, check_nothing_is_lost, outlive_kills
from ..support.sweeps import LR, Swept, sweep
from ..support.training_runs import is_same

GOOD = 0.005
KEY = "optimizer.lr"
ROOT = str(Path(__file__).resolve().parents[2])
# Weights divided between two processes on the CPU. Not with Adam: PyTorch gathers its two averages
# into the same memory there.
FSDP = (
    "trainer=fsdp",
    "trainer.accelerator=cpu",
    "trainer.devices=2",
    "trainer.strategy._target_=tests.support.fsdp.FSDPOnCPU",
    "trainer.strategy.auto_wrap_policy.min_num_params=1000",
    "model.net.width=64",
    "optimizer=sgd",
)


def state(checkpoint: Path) -> dict[str, Any]:
    """The weights, and everything else that a resumed training continues from."""
    saved = torch.load(checkpoint, weights_only=True)
    return {"epoch": saved["epoch"], "step": saved["global_step"], **saved["state_dict"]}


def test_promoted_trial_has_the_weights_of_one_without_a_pause(
    demo: BakedProject, tmp_path: Path
) -> None:
    """A winner whose pauses changed it could not be reproduced by anyone."""
    # The first trial is always paused at the first rung, and a good one is resumed.
    points = ",".join(f"{{optimizer.lr:{lr}}}" for lr in (GOOD, 1e-4, 2e-4, 3e-4))
    options = (*OPTIONS, "hydra.sweeper.workers=1", f"hydra.sweeper.enqueue=[{points}]")
    first = sweep(demo, tmp_path / "promoted", *options, "hydra.sweeper.n_trials=4")
    before = {row["optimizer.lr"] for row in first.rows}
    swept = sweep(demo, tmp_path / "promoted", *options, "hydra.sweeper.n_trials=7")
    assert len(before) == 4
    assert before <= {row["optimizer.lr"] for row in swept.rows}
    assert len(swept.rows) == 7
    assert {row["state"] for row in swept.rows} == {"finished", "paused"}
    assert "4 of 7 trials have ended" in swept.printed
    for row in swept.rows:
        kept = swept.folder / row["folder"] / "checkpoints" / "last.ckpt"
        assert kept.exists() == (row["state"] == "paused")
        # Earlier checkpoints of the same configuration are no longer needed.
        trial = swept.study.trials[int(row["number"])]
        for number in trial.user_attrs.get("earlier", ()):
            assert not list(swept.folder.glob(f"trials/{number:04d}/**/*.ckpt"))
    (winner,) = [row for row in swept.rows if float(row["optimizer.lr"]) == GOOD]
    assert winner["state"] == "finished"
    assert swept.study.trials[int(winner["number"])].user_attrs["earlier"]
    alone = sweep(
        demo,
        tmp_path / "alone",
        *TRAINING,
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.n_trials=1",
        # The same number of threads, on which the last bit of a sum depends.
        "hydra.sweeper.workers=1",
        f"hydra.sweeper.enqueue=[{{optimizer.lr:{GOOD}}}]",
    )
    (whole,) = alone.rows
    assert whole["val/acc"] == winner["val/acc"]
    place = Path("checkpoints/best.ckpt")
    saved = state(swept.folder / winner["folder"] / place)
    expected = state(alone.folder / whole["folder"] / place)
    assert saved.keys() == expected.keys()
    for name, value in expected.items():
        assert is_same(saved[name], value), name
    page = (swept.folder / "report.html").read_text("utf-8")
    assert "<h2>Paused</h2>" in page


def promoted_and_alone(
    project: BakedProject,
    folder: Path,
    options: tuple[str, ...],
    rates: tuple[float, ...],
    **more: Any,
) -> tuple[Swept, Swept]:
    """A sweep over learning rates, of which the first is promoted, and its trial without pauses."""
    points = [f"{{optimizer.lr:{rate}}}" for rate in rates]
    swept = sweep(
        project,
        folder / "promoted",
        *options,
        "hydra/sweeper/pruner=promote",
        "hydra.sweeper.pruner.min_epochs=1",
        "hydra.sweeper.pruner.factor=2",
        f"hydra.sweeper.n_trials={len(rates)}",
        f"hydra.sweeper.enqueue=[{','.join(points)}]",
        **more,
    )
    alone = sweep(
        project,
        folder / "alone",
        *options,
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.n_trials=1",
        f"hydra.sweeper.enqueue=[{points[0]}]",
        **more,
    )
    return swept, alone


@pytest.mark.slow
def test_promoted_fine_tuning_equals_one_without_a_pause(
    demo: BakedProject, tmp_path: Path
) -> None:
    """A trial that froze again after a pause, or unfroze too early, would win with other weights.

    Epoch 1 trains the head, 2 and 3 also the upper part, 4 to 6 everything. The winner pauses after
    epochs 1, 2 and 4: where a phase ends, and within both others.
    """
    write_fruit(tmp_path / "fruit", 12)
    options = (
        "experiment=finetune",
        f"data.path={tmp_path / 'fruit'}",
        "data.height=32",
        "data.width=32",
        "data.num_workers=0",
        "model.backbone=torchvision/shufflenet_v2_x0_5",
        "model.weights=null",
        "model.num_parts=2",
        "callbacks.unfreezing.freeze_epochs=1",
        "callbacks.unfreezing.every=2",
        "trainer.max_epochs=6",
        # Far above the loss of guessing with the learning rates of all others.
        "objective.metric=val/loss",
        "objective.mode=min",
        "logger=none",
        "search_space=none",
        "hydra.sweeper.workers=1",
        "optimizer.lr=tag(log,interval(1e-4,1))",
        # Not the best epoch, which may be one before the first pause.
        "+callbacks.kept._target_=pytorch_lightning.callbacks.ModelCheckpoint",
        "+callbacks.kept.dirpath='${paths.output_dir}/kept'",
        "+callbacks.kept.filename=last_epoch",
    )
    rates = (1e-3, 0.5, 0.6, 0.7, 0.8)
    swept, alone = promoted_and_alone(demo, tmp_path, options, rates, small=False)
    (winner,) = [row for row in swept.rows if row["state"] == "finished"]
    assert float(winner["optimizer.lr"]) == 1e-3
    earlier = swept.study.trials[int(winner["number"])].user_attrs["earlier"]
    paused = [max(swept.study.trials[number].intermediate_values) for number in earlier]
    assert sorted(paused) == [1, 2, 4]
    (whole,) = alone.rows
    place = Path("kept/last_epoch.ckpt")
    saved = torch.load(swept.folder / winner["folder"] / place, weights_only=True)
    expected = torch.load(alone.folder / whole["folder"] / place, weights_only=True)
    assert expected["epoch"] == 5
    for part in ("epoch", "global_step", "state_dict", "optimizer_states", "lr_schedulers"):
        assert is_same(saved[part], expected[part]), part


@pytest.mark.slow
@pytest.mark.parametrize("trainer", [("trainer=ddp_cpu",), FSDP], ids=["ddp", "fsdp"])
def test_promoted_trial_of_two_processes_equals_one_without_a_pause(
    demo: BakedProject, tmp_path: Path, trainer: tuple[str, ...]
) -> None:
    """The second process of a trial is a command of its own, and has to resume as well."""
    options = (*trainer, LR, "trainer.max_epochs=2", "hydra.sweeper.workers=1")
    swept, alone = promoted_and_alone(demo, tmp_path, options, (GOOD, 1e-4), python_path=ROOT)
    (winner,) = [row for row in swept.rows if row["state"] == "finished"]
    (whole,) = alone.rows
    assert swept.study.trials[int(winner["number"])].user_attrs["earlier"] == [0]
    saved = state(swept.folder / winner["folder"] / "checkpoints/best.ckpt")
    expected = state(alone.folder / whole["folder"] / "checkpoints/best.ckpt")
    assert winner["val/acc"] == whole["val/acc"]
    for name, value in expected.items():
        assert is_same(saved[name], value), name


@pytest.mark.slow
def test_kills_lose_no_paused_trial(demo: BakedProject, tmp_path: Path) -> None:
    """Twenty kills of the command and as many of trials: nothing is lost or trained twice."""
    total = 100
    swept = outlive_kills(demo, tmp_path / "killed", total, kills=20, each=1)
    check_nothing_is_lost(swept, total)
