"""Sweeps that pause and promote real trainings, and survive kills."""

import os
import random
import re
import signal
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..conftest import BakedProject
from .sweeps import LR, Swept, count, has_grown, processes_of, start_sweep, sweep, wait_until

# Rungs after 1, 2, 4 and 6 epochs.
TRAINING = (LR, "trainer.max_epochs=6", "scheduler=cosine")
OPTIONS = (
    *TRAINING,
    "hydra/sweeper/pruner=promote",
    "hydra.sweeper.pruner.min_epochs=1",
    "hydra.sweeper.pruner.factor=2",
)


def kill_a_trial(folder: Path) -> bool:
    """Kill a process that trains; whether there was one."""
    for process in processes_of(folder / "trials"):
        with suppress(Exception):
            process.kill()
            return True
    return False


def outlive_kills(
    demo: BakedProject, folder: Path, total: int, kills: int, each: int, *workers: str
) -> Swept:
    """Kill the command `kills` times, and `each` trials before that, and compare the results."""
    options = (
        *OPTIONS,
        f"hydra.sweeper.n_trials={total}",
        *(workers or ("hydra.sweeper.workers=2",)),
        # Each kill of a trial is a crash of its configuration.
        "hydra.sweeper.max_retries=1000",
    )
    swept, moments, killed = Swept(folder), random.Random(0), 0
    for _ in range(kills):
        process = start_sweep(demo, folder, *options)
        wait_until((folder / "trials").exists)
        known = count(folder / "trials")
        wait_until(partial(has_grown, folder / "trials", known, process))
        for _ in range(each):
            time.sleep(moments.uniform(0, 1))
            killed += kill_a_trial(folder)
        time.sleep(moments.uniform(0, 2))
        # On a fast machine it may have ended.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        wait_until(partial(_is_left, folder), 60)
    assert killed
    sweep(demo, folder, *options)
    return swept


def _is_left(folder: Path) -> bool:
    return not processes_of(folder)


def check_nothing_is_lost(swept: Swept, total: int) -> None:
    """Check that each configuration is at a rung, by epochs that were trained once."""
    study = swept.study
    counting = swept.counting
    assert len({trial.params["optimizer.lr"] for trial in counting}) == len(counting) == total
    lengths = Counter(max(trial.intermediate_values) for trial in counting)
    assert set(lengths) <= {1, 2, 4, 6}
    assert lengths[1] > lengths[2] > 0
    assert {t.state.name for t in counting if max(t.intermediate_values) == 6} == {"COMPLETE"}
    assert {t.state.name for t in counting if max(t.intermediate_values) < 6} == {"PRUNED"}
    for trial in study.trials:
        log = swept.folder / f"trials/{trial.number:04d}/run.log"
        epochs = re.findall(r"epoch (\d+)/6", log.read_text("utf-8") if log.exists() else "")
        for number in trial.user_attrs.get("earlier", ()):
            before = study.trials[number].intermediate_values
            # A value is reported once its checkpoint is saved, so none is trained again.
            assert not epochs or int(epochs[0]) > max(before, default=0)
            common = before.keys() & trial.intermediate_values.keys()
            assert {step: before[step] for step in common} == {
                step: trial.intermediate_values[step] for step in common
            }
