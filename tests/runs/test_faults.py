"""Kills, full disks, torn files, other clocks: what was trained is kept, and the user is told."""

import json
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from ..conftest import BakedProject
from ..support.own_data import write_flats
from ..support.sweeps import LR, Swept, processes_of, start_sweep, wait_until
from ..support.training_runs import ON_CPU, TrainedRun, is_same, run_all, script, train

WARM_KILLS = Path(__file__).parents[1] / "support" / "warm_kills.py"
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
    known = {"best.ckpt", "last.ckpt", "checkpoint.partial"}
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
    total = 3 * kills
    options = (LR, f"hydra.sweeper.n_trials={total}", "hydra.sweeper.max_retries=9")
    process = start_sweep(project, folder, *options)
    moments = random.Random(2)
    ended = killed = 0
    while killed < kills and process.poll() is None:
        # A trial ends between two kills: three of the same kind in a row end a sweep.
        wait_until(lambda known=ended: count_finished(folder) > known or process.poll() is not None)
        ended = count_finished(folder)
        time.sleep(moments.uniform(0, 1))
        for other in trials_of(folder)[:1]:
            other.send_signal(signal.SIGKILL)
            killed += 1
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert killed == kills
    assert not processes_of(folder)
    swept = Swept(folder)
    assert swept.states() == {"COMPLETE": total}
    points = [tuple(trial.params.items()) for trial in swept.counting]
    assert len(set(points)) == total, "a point was tried twice"
    again = [trial for trial in swept.counting if trial.user_attrs.get("earlier")]
    # A few are hit in their last moment, when their result has been sent.
    assert kills / 2 < len(again) <= kills


def count_finished(folder: Path) -> int:
    """How many trials have trained to their end."""
    texts = (path.read_text("utf-8") for path in folder.glob("trials/*/run.json"))
    return sum('"status": "finished"' in text for text in texts)


def trials_of(folder: Path) -> list[Any]:
    """The processes of trials: each writes the log of its own."""
    found = processes_of(folder / "trials")
    return [process for process in found if writes_log(process, folder / "trials")]


def writes_log(process: Any, folder: Path) -> bool:
    """Whether a process writes a log below a folder."""
    try:
        files = [Path(file.path) for file in process.open_files()]
    except psutil.Error:
        return False
    return any(file.is_relative_to(folder) and file.name == "run.log" for file in files)


@pytest.mark.slow
def test_fifteen_killed_trials_are_tried_again(demo: BakedProject, tmp_path: Path) -> None:
    """The memory of a machine ends, and its system kills whoever is large."""
    kill_trials(demo, tmp_path / "study", 15)


# Mounts of our own, which nobody else sees and which end with the command.
APART = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec")


@pytest.fixture(scope="module")
def apart(demo: BakedProject) -> Callable[[str], "subprocess.CompletedProcess[str]"]:
    """Runs a script in the project's folder with mounts of its own."""
    if shutil.which("unshare") is None or demo.run(*APART, "true", check=False).returncode:
        pytest.skip("this machine lets nobody mount anything")
    return lambda text: demo.run(*APART, text, check=False, **ON_CPU)


def test_full_disk_spoils_no_checkpoint(package: Any, tmp_path: Path) -> None:
    """The night's training must not be lost because the next checkpoint did not fit."""
    import torch

    file, path = package("runs.checkpoint_file").CheckpointFile(), tmp_path / "last.ckpt"
    file.save_checkpoint({"epoch": 1, "weights": torch.zeros(1000)}, path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    content = {"epoch": 2, "weights": torch.zeros(100_000)}
    best = tmp_path / "best.ckpt"
    file.save_checkpoint(content, best)
    # In the middle of a tensor, and in the end of the file that torch still has to write.
    for room in (0, 100_000, 400_500):
        for write in (partial(file.save_checkpoint, content), partial(file.copy_checkpoint, best)):
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
            try:
                with pytest.raises(
                    package("errors").UserError, match=r"last\.ckpt cannot be written"
                ):
                    write(path)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            assert file.load_checkpoint(path)["epoch"] == 1
            assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_full_disk_is_told_in_one_sentence(apart: Any, tmp_path: Path) -> None:
    """Which disk, in the last line, and not at the end of 160 lines of traceback."""
    import torch

    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    # There is room for two checkpoints of 1 MB, and not for a third beside them.
    done = apart(
        f"""
        mount -t tmpfs -o size=2900k none {disk}
        python train.py hydra.run.dir={disk}/run model=mlp model.net.width=256 \\
            logger=[tensorboard,csv] || code=$?
        cp -r {disk}/run {kept}
        exit $code
        """
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for words in (f"{disk}/run/checkpoints/", "No space left on device", "make room"):
        assert words in line
    names = {path.name for path in (kept / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}
    for name in names:
        assert torch.load(kept / "checkpoints" / name, weights_only=True)["epoch"] == 0
    manifest = json.loads((kept / "run.json").read_text("utf-8"))
    assert manifest["status"] == "failed"
    assert "No space left on device" in manifest["error"]


def test_disk_that_cannot_be_written_is_told(apart: Any, tmp_path: Path) -> None:
    """A disk that met an error is mounted again for reading only."""
    (tmp_path / "disk").mkdir()
    done = apart(
        f"""
        mount --bind {tmp_path}/disk {tmp_path}/disk
        mount -o remount,bind,ro {tmp_path}/disk
        exec python train.py paths.log_dir={tmp_path}/disk
        """
    )
    answer = done.stderr.splitlines()[-1]
    for words in (f"{tmp_path}/disk", "Read-only file system", "paths.log_dir"):
        assert words in answer, done.stderr


def test_log_on_a_full_disk_complains_once(
    package: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python's own file handler prints a traceback for every line."""
    import logging

    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    (tmp_path / "run.log").symlink_to("/dev/full")
    handler = package("runs.logs").RunLog(tmp_path / "run.log")
    for _ in range(3):
        handler.handle(logging.makeLogRecord({"msg": "epoch 1/20", "levelno": logging.INFO}))
    (line,) = capsys.readouterr().err.splitlines()
    assert "run.log cannot be written: No space left on device" in line


def spoilt(good: dict[str, Any]) -> dict[str, Any]:
    """Contents that a checkpoint may have when somebody else's program wrote it."""
    import torch

    contents: dict[str, Any] = {"a list": [1], "a tensor": torch.zeros(2), "nothing": None}
    for name in ("state_dict", "hyper_parameters", "epoch", "model_class"):
        contents[f"no {name}"] = {key: value for key, value in good.items() if key != name}
        contents[f"text as {name}"] = good | {name: "x"}
    contents["numbers as weights"] = good | {"state_dict": dict.fromkeys(good["state_dict"], 1)}
    contents["other options"] = good | {"hyper_parameters": {"net": 3}}
    contents["text as loops"] = good | {"loops": "x"}
    contents["no version"] = {k: v for k, v in good.items() if k != "pytorch-lightning_version"}
    return contents


def test_foreign_checkpoints_are_told(package: Any, digits: TrainedRun, tmp_path: Path) -> None:
    """Of another project, of an old release, or mended by hand: a sentence, and no traceback."""
    import torch

    checkpoints, user_error = package("runs.checkpoints"), package("errors").UserError
    path = tmp_path / "x.ckpt"
    for name, content in spoilt(digits.saved()).items():
        torch.save(content, path)
        with pytest.raises(user_error) as caught:
            package("loading").load_model(path)
        assert str(path) in str(caught.value) or "model_class" in name
    content = digits.checkpoint().read_bytes()
    for size in range(0, len(content), len(content) // 20):
        path.write_bytes(content[:size])
        with pytest.raises(user_error, match="truncated or another file"):
            checkpoints.read_checkpoint(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"status": "finis',
        "[]",
        '{"metrics": [], "config": "x", "git": null, "timings": 3}',
        '{"metrics": {"best": 0.9}, "status": {}}',
        "\0\0\0\0",
    ],
)
def test_table_of_runs_bears_any_run_json(package: Any, tmp_path: Path, text: str) -> None:
    """One torn file among hundreds must not take the table away."""
    good = {"status": "finished", "started": "2026-01-02T00:00:00+00:00"}
    for name, content in (("good", json.dumps(good)), ("torn", text)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(content)
    table = package("runs.table")
    rows = {row["run"]: row for row in table.collect_rows(tmp_path)}
    assert rows["good"]["status"] == "finished"
    assert rows["torn"]["status"] == "unreadable"
    table.print_table(table.sort_rows([*rows.values()], "started"))
    table.print_csv([*rows.values()])


def test_clock_that_is_set_back_makes_no_folder_twice(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hour that comes twice in autumn, and the jobs that one command starts at once."""
    directory, table = package("runs.directory"), package("runs.table")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    started = datetime(2026, 10, 25, 2, 30)

    class Clock(datetime):
        shown = started

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.shown

    monkeypatch.setattr(directory, "datetime", Clock)
    names = [directory.run_id("digits") for _ in range(100)]
    Clock.shown = started - timedelta(hours=1)
    names += [directory.run_id("digits") for _ in range(100)]
    Clock.shown = started
    names += [directory.run_id("digits") for _ in range(100)]
    assert len(set(names)) == 300
    # Sorted by what each run wrote itself, in UTC, whatever its folder is called.
    for hour, name in ((3, names[0]), (1, names[250]), (2, names[150])):
        (tmp_path / name).mkdir()
        manifest = {"status": "finished", "started": f"2026-10-25T0{hour}:30:00+00:00"}
        (tmp_path / name / "run.json").write_text(json.dumps(manifest))
    rows = table.sort_rows(table.collect_rows(tmp_path), "started")
    assert [row["run"] for row in rows] == [names[250], names[150], names[0]]


def test_sweep_lives_on_when_the_clock_is_set(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time of day the process would be another one now, and its trials would be taken."""
    import optuna

    leases = package("sweeps.storage")
    study = optuna.create_study()
    living, other = leases.LeaseHolders(study), leases.LeaseHolders(study)
    living.join()
    before = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: before(self) + 3600)
    assert other.is_alive(living.id)


@pytest.mark.parametrize(
    "damage", [b"not json\n", b"[1, 2]\n", b'{"op_code": 4}\n', b"\0" * 100 + b"\n"]
)
@pytest.mark.parametrize("place", ["first", "middle"])
def test_damaged_journal_is_told(package: Any, tmp_path: Path, damage: bytes, place: str) -> None:
    """A disk that lost a block; a traceback from the depths of Optuna helps nobody."""
    import optuna

    journal = package("sweeps.storage")
    lock = journal.FileLock(tmp_path / "study.lock")
    study = optuna.create_study(storage=journal.open_journal(tmp_path, lock), study_name="x")
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    path = tmp_path / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(0 if place == "first" else len(lines) // 2, damage)
    path.write_bytes(b"".join(lines))
    with pytest.raises(package("errors").UserError, match=r"journal\.log is damaged"):
        journal.open_journal(tmp_path, lock)
    assert path.read_bytes() == b"".join(lines)


def test_resume_on_other_data_is_told(demo: BakedProject, tmp_path: Path) -> None:
    """Somebody mends the table while the job waits; the curve would show a leap, and no reason."""
    write_flats(tmp_path / "flats.csv", rows=80)
    text = (tmp_path / "flats.csv").read_text("utf-8")
    lines = text.splitlines(keepends=True)
    (tmp_path / "same.csv").write_text(text, "utf-8")
    (tmp_path / "other.csv").write_text("".join([*lines[:-1], *lines[-1:] * 5]), "utf-8")

    def command(folder: str, table: str, epochs: int) -> tuple[str, ...]:
        options = ("experiment=csv", "data.target=dear", "scheduler=constant", "logger=none")
        place = (f"hydra.run.dir={tmp_path}/{folder}", f"data.path={tmp_path}/{table}.csv")
        return ("train.py", *options, *place, f"trainer.max_epochs={epochs}")

    resume = f"ckpt_path={tmp_path}/first/checkpoints/last.ckpt"
    commands = (
        command("first", "flats", 1),
        (*command("second", "same", 2), resume),
        (*command("third", "other", 2), resume),
    )
    assert run_all(demo, *commands) == ["", "", ""]
    told = "the data have changed since the checkpoint was written"
    logs = {name: (tmp_path / name / "run.log").read_text("utf-8") for name in ("second", "third")}
    assert told not in logs["second"]
    assert told in logs["third"]
    assert "samples, now" in logs["third"]
    # Here and in the next resume it says what was trained on last.
    third = json.loads((tmp_path / "third" / "run.json").read_text("utf-8"))
    assert sum(part["samples"] for part in third["data"].values()) == 84
