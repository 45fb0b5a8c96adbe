"""Trials that share a GPU: what each sees, what its parents keep, and an exhausted memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.sweeps import LR, sweep_command
from .conftest import Measured
from .device import IS_GPU, TRAINER, command, sweep, variables

pytestmark = [pytest.mark.serial]

TRIALS = 4
# What remains of a process that has ended: nothing. The driver's own bookkeeping varies.
SLACK = 200e6
HELD = 600  # MB held by each trial
QUIET = ("hydra/sweeper/pruner=none",)


def witness(folder: Path, at_once: int, megabytes: int = HELD) -> tuple[str, ...]:
    """Options for the callback that looks around."""
    options = {"folder": folder, "at_once": at_once, "megabytes": megabytes}
    target = "+callbacks.witness._target_=gpu_parts.TrialWitness"
    return (target, *(f"+callbacks.witness.{name}={value}" for name, value in options.items()))


def facts_in(folder: Path) -> list[dict[str, Any]]:
    """What the trials saw, by the time of their start."""
    facts = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return sorted(facts, key=lambda fact: fact["start"])


def most_at_once(facts: list[dict[str, Any]]) -> int:
    """The largest number of trials that ran at a moment."""
    return max(
        sum(other["start"] <= fact["start"] <= other["end"] for other in facts) for fact in facts
    )


def at_once_options(gpus: float, count: int) -> tuple[str, ...]:
    """Options for this number of concurrent trials."""
    if IS_GPU:
        return ("hydra.sweeper.gpus=[0]", f"hydra.sweeper.gpus_per_trial={gpus:g}")
    return (f"hydra.sweeper.workers={count}",)


def check_parents(facts: list[dict[str, Any]]) -> str:
    """Check that neither the sweep nor its fork server has a CUDA context; what showed it.

    CUDA opens /dev/nvidia-uvm when it is initialized. Counting devices opens others.
    """
    shown = []
    for fact in facts:
        files, pids = fact["files"], fact["pids"]
        # What forks a process that uses the GPU cannot have initialized CUDA: torch would refuse.
        assert fact["device"].startswith("cuda")
        for parent in ("server", "sweep"):
            opened = [file for file in files[parent] or () if "uvm" in file]
            assert not opened, f"{parent} has opened {opened}"
            if fact["contexts"]:
                assert pids[parent] not in fact["contexts"]
        if any("uvm" in file for file in files["trial"] or ()):
            shown.append("device files")
        if fact["contexts"] and pids["trial"] in fact["contexts"]:
            shown.append("driver")
    return ", ".join(sorted(set(shown))) or "only the forks themselves"


@pytest.mark.parametrize(("gpus", "count"), [(1, 1), (0.5, 2), (0.25, 4)])
def test_trials_share_the_gpu(
    gpus: float, count: int, project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """A fraction is the number of trials on the GPU, and each sees this GPU alone."""
    options = (LR, f"hydra.sweeper.n_trials={TRIALS}", *QUIET, *at_once_options(gpus, count))
    swept = sweep(project, tmp_path / "study", *options, *witness(tmp_path / "seen", count))
    assert swept.states() == {"COMPLETE": TRIALS}
    facts = facts_in(tmp_path / "seen")
    assert len(facts) == TRIALS
    assert most_at_once(facts) == count
    if not IS_GPU:
        return
    assert {fact["visible"] for fact in facts} == {"0"}
    assert {fact["devices"] for fact in facts} == {1}
    text = f"parents without CUDA according to {check_parents(facts)}"
    if count == 1:
        free = [fact["free"] for fact in facts]
        lost = max(free[0] - later for later in free[1:])
        assert lost < SLACK, free
        text += f"; after a trial that held {HELD} MB at most {lost / 1e6:.0f} MB are missing"
    measured(f"{count} at once; {text}")


def test_new_process_has_no_context_either(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """The other tests fork the sweep itself; this one starts it as a user does."""
    options = (LR, "hydra.sweeper.n_trials=2", *QUIET, *at_once_options(0.5, 2))
    words = sweep_command(tmp_path / "study", TRAINER, *options, *witness(tmp_path / "seen", 2))
    done = subprocess.run(
        [sys.executable, *words],
        cwd=project.root,
        env=variables(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    facts = facts_in(tmp_path / "seen")
    assert most_at_once(facts) == 2
    if IS_GPU:
        opened = {name: facts[0]["files"][name] for name in facts[0]["files"]}
        measured(f"according to {check_parents(facts)}; open: {opened}; {facts[0]['contexts']}")


def test_trial_out_of_memory_is_one_failed_trial(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """The night's other trials must run, with all of the memory."""
    # 400 blocks of 256 MB are more than any card has.
    hog = ("+callbacks.hog._target_=gpu_parts.Hog", "+callbacks.hog.blocks=0,400,1,2")
    cap = ("+callbacks.cap._target_=gpu_parts.Cap", "+callbacks.cap.megabytes=6000")
    seen = witness(tmp_path / "seen", 1, 0)
    options = (*QUIET, *at_once_options(1, 1), *cap, *seen, *hog)
    swept = sweep(project, tmp_path / "study", *options)
    assert swept.states() == {"COMPLETE": 3, "FAIL": 1}
    (failed,) = [row for row in swept.rows if row["state"] == "failed"]
    assert "400" in failed.values()
    words = "out of memory" if IS_GPU else "allocate"
    assert words in failed["error"]
    if not IS_GPU:
        return
    facts = facts_in(tmp_path / "seen")
    assert len(facts) >= 3
    free = [fact["free"] for fact in facts]
    assert max(free) - min(free) < SLACK, free
    measured(f"{failed['error'][:90]}; free before each trial {[f'{f / 1e9:.2f}' for f in free]}")


def test_memory_is_free_after_the_sweeps(
    project: BakedProject, tmp_path: Path, measured: Measured, needs_gpu: None
) -> None:
    """A machine that is shared must not need a restart after a sweep."""
    code = "import json, torch; print(json.dumps(torch.cuda.mem_get_info()))"
    before = json.loads(command(project, "-c", code).stdout)
    options = (LR, "hydra.sweeper.n_trials=2", *QUIET, *at_once_options(0.5, 2))
    sweep(project, tmp_path / "study", *options, *witness(tmp_path / "seen", 2, 2000))
    after = json.loads(command(project, "-c", code).stdout)
    assert before[0] - after[0] < SLACK
    measured(f"free before {before[0] / 1e9:.2f} GB, after {after[0] / 1e9:.2f} GB")


@pytest.mark.parametrize(("gpus", "count"), [(0.5, 2)])
def test_ray_workers_share_the_gpu(
    gpus: float, count: int, project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """Ray assigns the GPUs itself, by CUDA_VISIBLE_DEVICES of its actors."""
    pytest.importorskip("ray")
    share = (f"hydra.sweeper.gpus_per_trial={gpus:g}",) if IS_GPU else ()
    slots = ("hydra.sweeper.workers=ray", *share)
    options = (LR, f"hydra.sweeper.n_trials={TRIALS}", *QUIET, *slots)
    at_once = count if IS_GPU else 1
    swept = sweep(project, tmp_path / "study", *options, *witness(tmp_path / "seen", at_once))
    assert swept.states() == {"COMPLETE": TRIALS}, swept.printed
    facts = facts_in(tmp_path / "seen")
    assert len(facts) == TRIALS
    if not IS_GPU:
        return
    assert most_at_once(facts) == count
    assert {fact["visible"] for fact in facts} == {"0"}
    assert {fact["devices"] for fact in facts} == {1}
    measured(f"{count} at once; fork server without CUDA according to {check_parents(facts)}")
