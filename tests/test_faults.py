"""Kills, full disks, torn files, other clocks: what was trained is kept, and the user is told."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .conftest import OUTER, SLOW, BakedProject
from .sweeps import LR, Swept, finished, processes_of, start_sweep, sweep, wait_until
from .training_runs import ON_CPU, TrainedRun, is_same, script, train

# Epochs so short that every second kill hits the writing of a checkpoint.
SHORT = (
    "model=mlp",
    "model.net.width=300",
    "trainer.limit_train_batches=1",
    "trainer.limit_val_batches=1",
    "scheduler=constant",
    "callbacks.early_stopping=null",
    "logger=csv",
    # Ends hold for a while: nobody waits for them here.
    "callbacks.run_texts=null",
)


def start_training(project: BakedProject, folder: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Start a training and leave it running."""
    environment = {key: value for key, value in os.environ.items() if key not in OUTER + SLOW}
    return subprocess.Popen(
        [sys.executable, "train.py", f"hydra.run.dir={folder}", *options],
        cwd=project.root,
        env=environment | ON_CPU,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def kill_trainings(project: BakedProject, folder: Path, kills: int) -> None:
    """Kill a training at random moments, go on each time, and compare with one left alone."""
    last, best = (folder / "run" / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    moments = random.Random(1)
    epochs = 0
    for _ in range(kills):
        known = last.stat().st_mtime_ns if last.exists() else 0
        resume = (f"ckpt_path={last}",) if known else ()
        process = start_training(project, folder / "run", *SHORT, "trainer.max_epochs=-1", *resume)
        wait_until(partial(is_newer, last, known))
        time.sleep(moments.uniform(0, 0.5))
        assert process.poll() is None
        process.kill()
        process.wait()
        assert not processes_of(folder)
        before, epochs = epochs, epochs_in(last)
        assert epochs > before, "a checkpoint was lost"
        assert epochs_in(best) <= epochs + 1
        left = {path.name for path in best.parent.iterdir()}
        assert left <= {"best.ckpt", "last.ckpt", "best.ckpt.partial", "last.ckpt.partial"}
    end = f"trainer.max_epochs={epochs + 1}"
    resumed = train(project, folder / "run", *SHORT, end, f"ckpt_path={last}")
    whole = train(project, folder / "whole", *SHORT, end)
    for name in ("best", "last"):
        for part in ("epoch", "state_dict", "optimizer_states"):
            assert is_same(resumed.saved(name)[part], whole.saved(name)[part]), (name, part)
    assert resumed.metrics == whole.metrics
    assert {path.name for path in best.parent.iterdir()} == {"best.ckpt", "last.ckpt"}


def epochs_in(checkpoint: Path) -> int:
    """After how many epochs a checkpoint was written, which can be read."""
    import torch

    return int(torch.load(checkpoint, weights_only=True)["epoch"]) + 1


def is_newer(path: Path, known: int) -> bool:
    """Whether a file was written since."""
    return path.exists() and path.stat().st_mtime_ns > known


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
