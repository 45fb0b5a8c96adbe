"""A sweep outlives kills, interrupts and torn files, and several commands share one study."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest

from ..conftest import BakedProject
from ..support.sweeps import (
    LR,
    Swept,
    kill_and_continue,
    processes_of,
    start_sweep,
    sweep,
    sweep_command,
    wait_until,
)
from ..support.training_runs import ON_CPU

KILLED = '''
"""Dies after the last epoch of the second of two trainings, once."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback


class Killed(Callback):
    def __init__(self, file):
        self.file = Path(file)

    def on_train_epoch_start(self, trainer, pl_module):
        with self.file.open("a") as file:
            file.write(f"{trainer.current_epoch}\\n")

    def on_fit_end(self, trainer, pl_module):
        if len(self.file.read_text()) == 12 and not Path(f"{self.file}.killed").exists():
            Path(f"{self.file}.killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
'''

SLEEPY = '''
"""Epochs that last long enough to be interrupted."""

import time

from pytorch_lightning import Callback


class Sleepy(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        time.sleep(0.7)
'''
SLOW = ("+callbacks.sleepy._target_=sleepy.Sleepy", "trainer.max_epochs=4")


@pytest.fixture(scope="module")
def project(demo: BakedProject) -> BakedProject:
    """The project, with a callback that takes its time and one that dies."""
    (demo.root / "sleepy.py").write_text(SLEEPY)
    (demo.root / "killed.py").write_text(KILLED)
    return demo


def test_killed_sweep_goes_on(project: BakedProject, tmp_path: Path) -> None:
    """A cluster kills without asking."""
    kill_and_continue(project, tmp_path / "killed", total=10, kills=2)


@pytest.mark.slow
def test_twenty_kills_lose_nothing(project: BakedProject, tmp_path: Path) -> None:
    """The rare moments are found by trying many."""
    # So many trials that even a fast machine has some left for the last kill.
    kill_and_continue(project, tmp_path / "killed", total=160, kills=20)


def test_kill_after_the_last_epoch_trains_nothing_twice(
    project: BakedProject, tmp_path: Path
) -> None:
    """A kill during the final plots would cost the epochs of all seeds of a configuration."""
    epochs = tmp_path / "epochs"
    swept = sweep(
        project,
        tmp_path / "late",
        LR,
        "trainer.max_epochs=3",
        f"+callbacks.faults={{_target_:killed.Killed,file:'{epochs}'}}",
        "hydra.sweeper.n_trials=1",
        "hydra.sweeper.seeds=2",
    )
    assert swept.states() == {"COMPLETE": 1}
    broken, tried = swept.study.trials
    assert tried.user_attrs["earlier"] == [0]
    assert epochs.read_text().split() == ["0", "1", "2", "0", "1", "2"]
    # A pruner compares others with these.
    assert tried.intermediate_values == broken.intermediate_values
    assert len(tried.intermediate_values) == 6
    before, after = (
        json.loads((swept.folder / f"trials/{number:04d}/seed_0/run.json").read_text("utf-8"))
        for number in (0, 1)
    )
    assert after["metrics"] == before["metrics"]


def share(project: BakedProject, folder: Path, total: int) -> None:
    """Two commands on one study."""
    options = (LR, f"hydra.sweeper.n_trials={total}", "hydra.sweeper.workers=1")
    parents = [start_sweep(project, folder, *options) for _ in range(2)]
    printed = [parent.communicate()[0] for parent in parents]
    assert [parent.returncode for parent in parents] == [0, 0], printed
    swept = Swept(folder)
    assert swept.states() == {"COMPLETE": total}
    assert len(swept.study.trials) == total
    assert sorted(t.number for t in swept.study.trials) == list(range(total))
    shares = [t.user_attrs["holder"] for t in swept.study.trials]
    assert len(set(shares)) == 2, "one of the two did nothing"
    assert len({t.params["optimizer.lr"] for t in swept.study.trials}) == total
    assert len(list(folder.glob("trials/*/test.log"))) == 1


def test_two_commands_share_a_study(project: BakedProject, tmp_path: Path) -> None:
    """Two terminals, or the jobs of an array, must not do the work of one twice."""
    share(project, tmp_path / "shared", 12)


@pytest.mark.slow
def test_two_commands_share_sixty_trials(project: BakedProject, tmp_path: Path) -> None:
    """What happens rarely happens among many."""
    share(project, tmp_path / "shared", 60)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_epoch_and_the_next_command_goes_on(
    signum: signal.Signals, project: BakedProject, tmp_path: Path
) -> None:
    """Ctrl-C at noon or the end of a cluster job, the same command at night, nothing twice."""
    folder = tmp_path / "interrupted"
    options = (LR, "hydra.sweeper.n_trials=2", *SLOW)
    process = start_sweep(project, folder, *options)
    wait_until(lambda: list(folder.glob("trials/*/checkpoints/last.ckpt")))
    # A cluster sends its signal to all processes of a job, a terminal to those of its group.
    for other in processes_of(folder) if signum == signal.SIGTERM else []:
        if other.pid != process.pid:
            other.send_signal(signum)
    os.kill(process.pid, signum)
    printed, _ = process.communicate()
    assert process.returncode == 130, printed
    assert "the same command continues the sweep" in printed
    assert "Traceback" not in printed
    assert not processes_of(folder)
    swept = sweep(project, folder, *options)
    assert swept.states() == {"COMPLETE": 2}
    for trial in swept.counting:
        log = (folder / f"trials/{trial.number:04d}/run.log").read_text("utf-8")
        if trial.user_attrs.get("earlier"):
            assert "epoch 1/4" not in log
        assert "epoch 4/4" in log
        # The epochs before the interrupt belong to the trial too.
        assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
    assert any(trial.user_attrs.get("earlier") for trial in swept.counting)


def test_second_interrupt_ends_at_once(project: BakedProject, tmp_path: Path) -> None:
    """Who presses twice means now."""
    folder = tmp_path / "twice"
    options = (LR, "hydra.sweeper.n_trials=2", SLOW[0], "trainer.max_epochs=500")
    process = start_sweep(project, folder, *options)
    wait_until(lambda: list(folder.glob("trials/*/run.json")))
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=30)
    assert process.returncode == 130, printed
    wait_until(lambda: not processes_of(folder), 10)
    assert {t.state.name for t in Swept(folder).counting} == {"WAITING"}


def make_study(sweeps_package: Any, folder: Path, trials: int) -> optuna.Study:
    """A study on a journal of ours."""
    journal = sweeps_package("storage")
    storage = journal.open_journal(folder, journal.FileLock(folder / "study.lock"))
    study = optuna.create_study(storage=storage, study_name="torn", load_if_exists=True)
    for _ in range(trials):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, 0.5)
    return study


def test_journal_cut_anywhere_opens_again(sweeps_package: Any, tmp_path: Path) -> None:
    """A full disk or a power cut tears the last line, and Optuna never opens such a file again."""
    make_study(sweeps_package, tmp_path, 20)
    path = tmp_path / "journal.log"
    whole = path.read_bytes()
    for size in range(len(whole) - 1024, len(whole)):
        path.write_bytes(whole[:size])
        study = make_study(sweeps_package, tmp_path, 0)
        assert path.read_bytes().startswith(whole[: whole.rfind(b"\n", 0, size) + 1])
        for line in path.read_text("utf-8").splitlines():
            json.loads(line)
        assert len(study.trials) >= 17
    # And it can be written to again.
    assert len(make_study(sweeps_package, tmp_path, 1).trials) >= 20


def test_what_was_told_survives_a_power_cut(
    sweeps_package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trial that has ended, and whose checkpoints are deleted, must not be running afterwards.

    Of the reports of a running trial only the last may be lost, which are repeated.
    """
    durable: list[int] = []
    path, sync = tmp_path / "journal.log", os.fsync
    # What the disk holds for certain: the file as it was at the last wait for it.

    def watched(file: int) -> None:
        durable.append(os.fstat(file).st_size)
        sync(file)

    monkeypatch.setattr(os, "fsync", watched)

    def after_a_cut() -> optuna.Study:
        folder = tmp_path / f"cut-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "journal.log").write_bytes(path.read_bytes()[: durable[-1]])
        return open_search(sweeps_package, folder).study

    search = open_search(sweeps_package, tmp_path)
    before = len(durable)
    trial = search.ask("0")
    assert len(durable) == before + 1
    (asked,) = after_a_cut().trials
    assert asked.state.name == "RUNNING"
    assert asked.params == trial.params
    assert asked.user_attrs["holder"] == search.holders.id
    before = len(durable)
    for step in (1, 2, 3):
        search.report(trial.number, step, 0.5)
    assert len(durable) == before
    types = sweeps_package("types")
    search.tell(trial.number, types.TrialOutcome(types.State.FINISHED, {"val/acc": 0.5}))
    assert len(durable) == before + 1
    (told,) = after_a_cut().trials
    assert told.state.name == "COMPLETE"
    assert told.values == [0.5]
    assert told.intermediate_values == {1: 0.5, 2: 0.5, 3: 0.5}


def open_search(sweeps_package: Any, folder: Path) -> Any:
    """A search for one option, with its journal in a folder."""
    storage, search = sweeps_package("storage"), sweeps_package("optuna_search")
    space, types = sweeps_package("space"), sweeps_package("types")
    lock = storage.FileLock(folder / "study.lock")
    goals = [types.Objective("val/acc", "max")]
    study = search.open_study(storage.open_journal(folder, lock), "study", goals)
    lr = space.Parameter("optimizer.lr", low=1e-5, high=1.0, log=True)
    found = search.OptunaSearch(study, space.Space((lr,)), goals, 5, 1, {}, lock)
    found.join({"name": "random"}, {"name": "none"}, 7)
    return found


def test_torn_line_of_another_command_does_not_stop_this_one(
    sweeps_package: Any, tmp_path: Path
) -> None:
    """One of two commands dies in mid-write while the other goes on."""
    study = make_study(sweeps_package, tmp_path, 2)
    with (tmp_path / "journal.log").open("ab") as file:
        file.write(b'{"op_code":5,"worker_id":"gone"')
    study.set_user_attr("still", "here")
    assert make_study(sweeps_package, tmp_path, 1).user_attrs["still"] == "here"
    for line in (tmp_path / "journal.log").read_text().splitlines():
        json.loads(line)


def test_lease_of_another_machine_runs_out(
    sweeps_package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials of a machine that went away must not stay in progress for ever, nor a living one's."""
    leases = sweeps_package("storage")
    study = make_study(sweeps_package, tmp_path, 0)
    monkeypatch.setattr(leases, "RENEW", 0.0)
    monkeypatch.setattr(leases, "LEASE", 0.3)
    there, here = leases.LeaseHolders(study), leases.LeaseHolders(study)
    monkeypatch.setattr(leases, "host", lambda: "another")
    there.join()
    monkeypatch.undo()
    monkeypatch.setattr(leases, "RENEW", 0.0)
    monkeypatch.setattr(leases, "LEASE", 0.3)
    here.join()
    for _ in range(4):
        assert here.is_alive(there.id)
        time.sleep(0.2)
        there.renew()
    assert here.is_alive(there.id)
    time.sleep(0.4)
    assert not here.is_alive(there.id)
    here.leave()
    assert not there.is_alive(here.id)


def test_process_number_of_another_program_is_no_life(sweeps_package: Any, tmp_path: Path) -> None:
    """After a restart of the machine the number of the dead command may be somebody else's."""
    leases = sweeps_package("storage")
    study = make_study(sweeps_package, tmp_path, 0)
    dead, here = leases.LeaseHolders(study), leases.LeaseHolders(study)
    dead.join()
    here.join()
    assert here.is_alive(dead.id)
    lease = study.user_attrs[f"holder:{dead.id}"]
    study.set_user_attr(f"holder:{dead.id}", lease | {"created": lease["created"] - 100})
    assert not here.is_alive(dead.id)


@pytest.fixture
def postgres() -> Iterator[str]:
    """The URL of a real PostgreSQL server of our own."""
    pytest.importorskip("psycopg")
    for program in ("initdb", "postgres"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} on this machine")
    # The server refuses to run as root.
    user: dict[str, Any] = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        if user:
            shutil.chown(name, user["user"])
        data = f"{name}/data"
        # In the C locale the encoding would be SQL_ASCII.
        make = ["initdb", "-D", data, "-U", "me", "-A", "trust", "-N", "--encoding=UTF8"]
        subprocess.run(make, check=True, capture_output=True, cwd=name, **user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        serve = ["postgres", "-D", data, "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
        with subprocess.Popen(
            [*serve, "-k", name],
            cwd=name,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,
        ) as server:
            wait_until(lambda: _answers(port), 30)
            yield f"postgresql://me:hush@127.0.0.1:{port}/postgres"
            server.send_signal(signal.SIGINT)


def _answers(port: int) -> bool:
    import psycopg

    try:
        psycopg.connect(f"postgresql://me@127.0.0.1:{port}/postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def test_many_open_an_empty_database_at_once(sweeps_package: Any, postgres: str) -> None:
    """The jobs of an array start in the same second, and each finds no tables."""
    open_database = sweeps_package("storage").open_database
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(open_database, [postgres] * 8))) == 8


def test_machines_without_a_shared_disk_share_a_database(
    project: BakedProject, tmp_path: Path, postgres: str
) -> None:
    """A study of many machines whose only meeting place is a server."""
    place = f"hydra.sweeper.storage={postgres}"
    options = (LR, "hydra.sweeper.n_trials=10", "hydra.sweeper.workers=1", place)
    # Two folders, as on two machines.
    parents = [start_sweep(project, tmp_path / place / "study", *options) for place in "ab"]
    printed = [parent.communicate()[0] for parent in parents]
    assert [parent.returncode for parent in parents] == [0, 0], printed
    study = optuna.load_study(study_name="study", storage=postgres)
    swept = Swept(tmp_path / "a" / "study")
    trials = [t for t in study.trials if not t.user_attrs.get("withdrawn")]
    assert [t.state.name for t in trials] == ["COMPLETE"] * 10
    assert len({t.user_attrs["holder"] for t in trials}) == 2
    assert len(swept.rows) == 10
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"hush" not in path.read_bytes(), path
    assert "hush" not in "".join(printed)


def test_refused_sweep_leaves_no_process_behind(demo: BakedProject, tmp_path: Path) -> None:
    """Workers begin to import while the command is checked, and would go on after it."""
    mark = {"REFUSED_SWEEP": str(tmp_path)}
    command = sweep_command(tmp_path / "sweep", LR, "optimizer.weight_decay=-1")
    done = demo.run("python", *command, check=False, **ON_CPU, **mark)
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("REFUSED_SWEEP") == str(tmp_path):
                left.append(process.cmdline())
    assert done.returncode == 1, done.stdout + done.stderr
    assert "weight_decay" in done.stderr
    assert not left
    assert not (tmp_path / "sweep").exists()
