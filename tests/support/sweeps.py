"""Runs sweeps of a baked project and reads what they leave behind."""

import csv
import os
import random
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from ..conftest import BakedProject, start_warm
from .training_runs import ON_CPU, script
from .warm_client import WarmProcess

# A trial of these is over in half a second.
SMALL = (
    "model=mlp",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "logger=none",
    "search_space=none",
)
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"


@dataclass(frozen=True)
class Swept:
    """The folder of a sweep."""

    folder: Path
    printed: str = ""

    @property
    def rows(self) -> list[dict[str, str]]:
        """The leaderboard."""
        with (self.folder / "leaderboard.csv").open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))

    @property
    def study(self) -> optuna.Study:
        """The study, as Optuna itself reads it."""
        backend = JournalFileBackend(str(self.folder / "journal.log"))
        return optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))

    @property
    def counting(self) -> list[optuna.trial.FrozenTrial]:
        """The trials whose place no other has taken."""
        trials = self.study.trials
        replaced = {number for t in trials for number in t.user_attrs.get("earlier", ())}
        return [t for t in trials if t.number not in replaced and not t.user_attrs.get("withdrawn")]

    def states(self) -> dict[str, int]:
        """How many trials ended in what way."""
        found: dict[str, int] = {}
        for trial in self.counting:
            found[trial.state.name] = found.get(trial.state.name, 0) + 1
        return found


def sweep(
    project: BakedProject,
    folder: Path,
    *options: str,
    check: bool = True,
    small: bool = True,
    python_path: str = "",
) -> Swept:
    """Run `train.py -m` with the study in `folder`, to its end."""
    command = sweep_command(folder, *options, small=small)
    done = script(project, *command, check=check, python_path=python_path)
    return Swept(folder, done.stdout + done.stderr)


def sweep_command(folder: Path, *options: str, small: bool = True) -> tuple[str, ...]:
    """The words after `python`."""
    place = (f"hydra.sweep.dir={folder.parent}", f"hydra.sweeper.study_name={folder.name}")
    return ("train.py", "-m", *place, *(SMALL if small else ()), *options)


def start_sweep(project: BakedProject, folder: Path, *options: str) -> WarmProcess:
    """Start a sweep in a session of its own and leave it running; its output is one text."""
    return start_warm(*sweep_command(folder, *options), cwd=project.root, **ON_CPU)


def processes_of(folder: Path) -> list[Any]:
    """Processes that write below a folder, or were started for it."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            files = [file.path for file in process.open_files()]
        except psutil.Error:
            continue
        if str(folder) in words or any(path.startswith(str(folder)) for path in files):
            found.append(process)
    return found


def finished(swept: Swept) -> dict[int, tuple[Any, Any]]:
    """Parameters and values of the trials that have finished."""
    return {
        trial.number: (trial.params, trial.values)
        for trial in swept.study.trials
        if trial.state == optuna.trial.TrialState.COMPLETE
    }


def wait_until(condition: Any, seconds: float = 300) -> None:
    """Wait for something that another process does, on a machine with much to do."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            pytest.fail("it did not happen")
        time.sleep(0.05)


def has_grown(folder: Path, known: int, process: WarmProcess) -> bool:
    """Whether there is more in a folder than before, or a process has ended."""
    return count(folder) > known or process.poll() is not None


def count(folder: Path) -> int:
    """How many things a folder holds."""
    return len(list(folder.iterdir()))


def kill_and_continue(
    project: BakedProject, folder: Path, *engine: str, total: int, kills: int
) -> Swept:
    """Kill a sweep at random moments, continue it each time, and compare."""
    swept = Swept(folder)
    options = (LR, *engine, f"hydra.sweeper.n_trials={total}")
    before: dict[int, tuple[Any, Any]] = {}
    moments = random.Random(0)
    for _ in range(kills):
        process = start_sweep(project, folder, *options)
        wait_until((folder / "trials").exists)
        known = count(folder / "trials")
        wait_until(partial(has_grown, folder / "trials", known, process))
        time.sleep(moments.uniform(0, 2))
        # On a fast machine it may have ended.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        wait_until(lambda: not processes_of(folder), 10)
        after = finished(swept)
        assert before.items() <= after.items(), "a finished trial was lost or run again"
        before = after
    done = sweep(project, folder, *options)
    after = finished(done)
    assert before.items() <= after.items()
    assert done.states() == {"COMPLETE": total}
    folders = sorted(path.name for path in (folder / "trials").iterdir())
    # A trial may have been killed before it had a folder.
    assert set(folders) <= {f"{t.number:04d}" for t in done.study.trials}
    points = [tuple(t.params.items()) for t in done.counting]
    assert len(set(points)) == total, "a point was tried twice"
    return done
