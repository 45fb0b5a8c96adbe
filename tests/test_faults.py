"""Kills, full disks, torn files, other clocks: what was trained is kept, and the user is told."""

import json
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import BakedProject
from .sweeps import LR, Swept, processes_of, start_sweep
from .training_runs import is_same, script, train

WARM_KILLS = Path(__file__).with_name("warm_kills.py")
# Epochs so short that many a kill hits the writing of a checkpoint.
SHORT = (
    "model=mlp",
    "model.net.width=300",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "scheduler=constant",
    "callbacks.early_stopping=null",
    "logger=csv",
)


def kill_trainings(project: BakedProject, folder: Path, kills: int) -> None:
    """Kill a training at random moments, go on each time, and compare with one left alone."""
    killed = folder / "killed"
    options = (*SHORT, "trainer.max_epochs=-1")
    done = script(project, str(WARM_KILLS), str(killed), str(kills), *options)
    found = json.loads(done.stdout)
    assert [kill["ended"] for kill in found] == [-signal.SIGKILL] * kills
    epochs = [kill["last.ckpt"] for kill in found]
    assert epochs == sorted(set(epochs)), "a checkpoint was lost"
    # The best one is written first, and may be one epoch ahead.
    assert all(kill["best.ckpt"] <= kill["last.ckpt"] + 1 for kill in found)
    known = {"best.ckpt", "last.ckpt", "best.ckpt.partial", "last.ckpt.partial"}
    assert all(known.issuperset(kill["files"]) for kill in found)
    assert not processes_of(killed)
    end = (*SHORT, f"trainer.max_epochs={epochs[-1] + 1}")
    last = killed / "checkpoints" / "last.ckpt"
    resumed = train(project, killed, *end, f"ckpt_path={last}")
    whole = train(project, folder / "whole", *end)
    for name in ("best", "last"):
        for part in ("epoch", "state_dict", "optimizer_states"):
            assert is_same(resumed.saved(name)[part], whole.saved(name)[part]), (name, part)
    assert resumed.metrics == whole.metrics
    assert sorted(path.name for path in last.parent.iterdir()) == ["best.ckpt", "last.ckpt"]


@pytest.mark.slow
def test_fifteen_kills_keep_all_checkpoints(demo: BakedProject, tmp_path: Path) -> None:
    """A cluster kills without asking, also while a checkpoint is being written."""
    kill_trainings(demo, tmp_path, 15)


def kill_trials(project: BakedProject, folder: Path, kills: int) -> None:
    """Kill trials of a sweep at random moments, its parent looking on."""
    total = 2 * kills
    options = (LR, f"hydra.sweeper.n_trials={total}", "hydra.sweeper.max_retries=9")
    process = start_sweep(project, folder, *options)
    moments = random.Random(2)
    done = 0
    while done < kills:
        time.sleep(moments.uniform(0, 0.5))
        for other in trials_of(folder):
            other.send_signal(signal.SIGKILL)
            done += 1
            break
        assert process.poll() is None, process.communicate()
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert not processes_of(folder)
    swept = Swept(folder)
    assert swept.states() == {"COMPLETE": total}
    points = [tuple(trial.params.items()) for trial in swept.counting]
    assert len(set(points)) == total
    assert any(trial.user_attrs.get("earlier") for trial in swept.counting)
    assert "killed by SIGKILL" in printed


def trials_of(folder: Path) -> list[Any]:
    """The processes of trials: they write into folders of their own."""
    found = processes_of(folder / "trials")
    return [process for process in found if is_trial(process, folder / "trials")]


def is_trial(process: Any, folder: Path) -> bool:
    """Whether a process writes the log of a trial that trains."""
    import psutil

    try:
        files = [Path(file.path) for file in process.open_files()]
    except psutil.Error:
        return False
    return any(file.is_relative_to(folder) and file.name == "run.log" for file in files)


@pytest.mark.slow
def test_fifteen_killed_trials_are_tried_again(demo: BakedProject, tmp_path: Path) -> None:
    """The memory of a machine ends, and its system kills whoever is large."""
    kill_trials(demo, tmp_path / "study", 15)
