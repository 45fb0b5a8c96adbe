"""Sweeps on systems without fork, `fcntl` and process groups, as far as they can be imitated."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from ..conftest import BakedProject
from ..support.sweeps import Swept, processes_of, sweep_command
from ..support.template_package import Part
from ..support.training_runs import ON_CPU

KILLED = '''
"""Dies once."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback


class Killed(Callback):
    def __init__(self, file):
        self.file = Path(file)

    def on_train_epoch_end(self, trainer, pl_module):
        if not self.file.exists():
            self.file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
'''

HOLDER = """
import os, sys
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.lockf(descriptor, os.F_LOCK, 1)
print("locked", flush=True)
sys.stdin.readline()
open(sys.argv[1] + ".released", "w").close()
"""


def test_sweep_without_fork(demo: BakedProject, tmp_path: Path) -> None:
    """On Windows a trial is a process that has to be spawned, and a crash is retried there too."""
    (demo.root / "killed_once.py").write_text(KILLED)
    folder = tmp_path / "spawned"
    options = ("hydra.sweeper.n_trials=3", "hydra.sweeper.workers=2", "trainer.max_epochs=1")
    fault = f"+callbacks.killed={{_target_:killed_once.Killed,file:'{tmp_path / 'killed'}'}}"
    command = sweep_command(folder, "optimizer.lr=interval(1e-4,1e-2)", fault, *options)
    variables = ON_CPU | {"WORKBENCH_START_METHOD": "spawn"}
    done = demo.run("python", *command, check=True, **variables)
    swept = Swept(folder, done.stdout)
    assert swept.states() == {"COMPLETE": 3}
    assert [trial.state.name for trial in swept.study.trials].count("FAIL") == 1
    assert "killed by SIGKILL" in done.stdout
    assert "test/acc" in done.stdout
    assert not processes_of(folder)


def test_lock_without_fcntl(package: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands that write to the journal at the same time would damage it."""

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (1, 1)
        # Windows tries ten times.
        os.lockf(descriptor, os.F_TLOCK, count)

    monkeypatch.setitem(sys.modules, "fcntl", None)
    msvcrt = SimpleNamespace(locking=locking, LK_LOCK=1)
    monkeypatch.setitem(sys.modules, "msvcrt", msvcrt)
    path = tmp_path / "study.lock"
    holder = subprocess.Popen(
        (sys.executable, "-c", HOLDER, str(path)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    assert holder.stdin is not None and holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    lock = package("sweeps.storage").FileLock(path)
    with pytest.raises(OSError), path.open("ab") as file:
        locking(file.fileno(), 1, 1)
    holder.stdin.write("\n")
    holder.stdin.flush()
    with lock.held(), lock.held():
        assert Path(f"{path}.released").exists()
    holder.communicate()
    assert holder.returncode == 0


def test_trial_is_killed_with_its_processes_where_there_are_no_groups(
    package: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of a DataLoader that outlive a killed trial fill the memory."""
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '1000']).pid, flush=True); "
    script += "sys.stdin.readline()"
    process = subprocess.Popen(
        (sys.executable, "-c", script), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    monkeypatch.delattr(os, "killpg")
    trial = SimpleNamespace(pid=process.pid, exitcode=None, kill=process.kill)
    package("sweeps.processes").kill_group(trial)
    process.communicate()
    end = time.monotonic() + 60
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.01)
