"""How a sweep ends: exit codes that scripts can trust, and a terminal that is left tidy."""

import os
import pty
import re
import sys
from pathlib import Path

import pytest

from ..conftest import OUTER, SLOW, BakedProject
from ..support.sweeps import LR, sweep, sweep_command
from ..support.training_runs import script

CALLBACKS = '''
"""A callback that takes its time, and one that fails with the learning rate in its message."""

import time

from pytorch_lightning import Callback


class Sleepy(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        time.sleep(0.7)


class Nan(Callback):
    def on_train_start(self, trainer, pl_module):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        raise RuntimeError(f"the loss became NaN at learning rate {rate}")
'''


@pytest.fixture(scope="module")
def project(demo: BakedProject) -> BakedProject:
    """The project, with callbacks of its own."""
    (demo.root / "ends.py").write_text(CALLBACKS)
    return demo


def test_used_up_budget_is_success(project: BakedProject, tmp_path: Path) -> None:
    """A job that is given an hour and uses it must not look interrupted to what comes next."""
    options = (
        LR,
        "+callbacks.sleepy._target_=ends.Sleepy",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.workers=1",
    )
    long = ("trainer.max_epochs=500", "callbacks.early_stopping=null")
    swept = sweep(project, tmp_path / "budget", *options, *long, "hydra.sweeper.timeout=2")
    (line,) = [line for line in swept.printed.splitlines() if "timeout: 0 of 2" in line]
    assert "1 were stopped; the same command continues the sweep" in line
    (row,) = swept.rows
    assert (row["state"], row["rank"]) == ("stopped", "")
    assert 0 < float(row["val/acc"]) < 1
    assert "1 stopped" in (swept.folder / "report.html").read_text("utf-8")
    # Nothing is lost: the checkpoint to resume from is there.
    assert (swept.folder / row["folder"] / "checkpoints" / "last.ckpt").is_file()


def test_sweep_without_a_winner_fails(project: BakedProject, tmp_path: Path) -> None:
    """What a script does with the winner next must not be done with none."""
    options = (LR, "+callbacks.nan._target_=ends.Nan", "hydra.sweeper.max_retries=0")
    command = sweep_command(tmp_path / "nan", *options, "hydra.sweeper.n_trials=2")
    done = script(project, *command, check=False)
    assert done.returncode == 1
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith("error: There is no winner: all 2 trials failed with: RuntimeError")
    assert not (tmp_path / "nan" / "best.yaml").exists()


LIVE = """
from workbench.sweeps.display import Display
from workbench.sweeps.types import Next, TrialOutcome, State, Trial
display = Display("study", "val/acc", 1)
print("before")
with display.live() as live:
    display.start(Trial(0, {"optimizer.lr": 0.1}), 0)
    live.refresh()
    display.end(Trial(0, {"optimizer.lr": 0.1}), TrialOutcome(State.FINISHED), Next.NOTHING)
    live.refresh()
print("after")
"""


def on_terminal(*command: str, cwd: Path) -> str:
    """What a program writes to a terminal."""
    pid, line = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(cwd)
        for name in OUTER + SLOW:
            os.environ.pop(name, None)
        os.environ |= {"TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
        os.execv(command[0], command)
    written = b""
    try:
        while part := os.read(line, 65536):
            written += part
    except OSError:
        # Linux says so when the other end is closed.
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, written.decode()
    return written.decode()


def screen(written: str) -> list[str]:
    """The lines that are left on a terminal, for the few codes that Rich uses here."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return [line.strip() for line in lines if line.strip()]


def test_live_table_leaves_nothing_on_the_screen(demo: BakedProject) -> None:
    """An empty box below the results looks as if they were missing."""
    written = on_terminal(sys.executable, "-c", LIVE, cwd=demo.root)
    assert "lr=0.1" in written, "the table was never shown"
    assert screen(written) == ["before", "after"]
