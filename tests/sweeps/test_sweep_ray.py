"""Sweeps on a Ray cluster: three nodes, which here are processes of one machine."""

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from ..conftest import BakedProject
from ..support.modules import project_module
from ..support.promoted import check_nothing_is_lost, outlive_kills
from ..support.sweeps import LR, Swept, finished, kill_and_continue, start_sweep, sweep, wait_until

CALLBACKS = '''
"""Epochs that take a while, and a trial whose process dies once."""

import os
import signal
import time
from pathlib import Path

from pytorch_lightning import Callback


class Slow(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        time.sleep(0.4)
        if Path(trainer.default_root_dir).name == "0004":
            os.kill(os.getpid(), signal.SIGKILL)
'''

# Long enough for a node to die meanwhile, and all of them to their end.
SLOWLY = (
    "trainer.max_epochs=3",
    "+callbacks.slow._target_=slow_trials.Slow",
    "hydra/sweeper/pruner=none",
)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster.

    Attributes:
        options: what a sweep on it is told.
        nodes: the process of each node by its name.
        folder: the files of Ray.
    """

    options: tuple[str, ...]
    nodes: dict[str, psutil.Process]
    folder: Path


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes with one core each, which let in only who knows the token."""
    # Sockets lie in it, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(24))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        head = ("--head", f"--port={address.rpartition(':')[2]}", f"--temp-dir={folder}")
        nodes = {"head": start_node("head", folder, *head, "--include-dashboard=false")}
        for name in ("one", "two"):
            nodes[name] = start_node(name, folder, f"--address={address}")
        options = ("hydra.sweeper.workers=ray", f"hydra.sweeper.address={address}")
        yield Cluster(options, nodes, folder)
    for process in processes(folder):
        process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def start_node(name: str, folder: Path, *options: str) -> psutil.Process:
    """Start a node; its process."""
    before = set(raylets(folder))
    command = [str(Path(sys.executable).with_name("ray")), "start", f"--node-name={name}"]
    sizes = ["--num-cpus=1", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1"]
    subprocess.run([*command, *sizes, *options], check=True, capture_output=True)
    wait_until(lambda: set(raylets(folder)) - before)
    # What it has just forked looks like it for a moment.
    return min(set(raylets(folder)) - before, key=psutil.Process.create_time)


def processes(folder: Path) -> list[psutil.Process]:
    """The processes of the cluster that has its files in a folder."""
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if any(str(folder) in word for word in p.info["cmdline"] or ())]


def raylets(folder: Path) -> list[psutil.Process]:
    """The main processes of the nodes."""
    return [p for p in processes(folder) if Path(p.info["cmdline"][0]).name == "raylet"]


@pytest.fixture(scope="module")
def project(demo: BakedProject) -> BakedProject:
    """The project, with a module that makes it slow."""
    (demo.root / "slow_trials.py").write_text(CALLBACKS)
    return demo


@pytest.mark.slow
def test_node_that_dies_loses_nothing(
    cluster: Cluster, project: BakedProject, tmp_path: Path
) -> None:
    """Spot machines are cheap because they vanish; what runs there must end elsewhere."""
    swept = Swept(tmp_path / "study")
    options = (LR, *cluster.options, "hydra.sweeper.n_trials=24", *SLOWLY)
    process = start_sweep(project, swept.folder, *options)
    journal = swept.folder / "journal.log"
    wait_until(lambda: process.poll() is not None or journal.exists(), 120)
    wait_until(lambda: process.poll() is not None or len(finished(swept)) >= 8, 300)
    cluster.nodes["two"].send_signal(signal.SIGKILL)
    printed = process.communicate(timeout=240)[0]
    assert process.returncode == 0, printed
    assert swept.states() == {"COMPLETE": 24}
    assert [row["error"] for row in swept.rows] == [""] * 24
    # Trial 4 killed itself, which hurt nobody but itself, and was tried once more.
    assert "killed by SIGKILL" in printed
    assert "its node two does not answer" in printed
    assert {row["worker"].split()[-1] for row in swept.rows} == {"head", "one", "two"}
    for row in swept.rows:
        assert (swept.folder / row["folder"] / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["optuna", "ray"])
def test_workers_get_variables_of_env_file(
    cluster: Cluster, project: BakedProject, tmp_path: Path, engine: str
) -> None:
    """The file stays on the machine of the command, and Ray would write its content to logs."""
    pytest.importorskip("dotenv")
    file = project.root / ".env"
    file.write_text("TRIAL_NAME=from_file\nCHAT_TOKEN=CANARYtoken\n")
    options = [LR, f"hydra/sweeper={engine}", *cluster.options, "hydra.sweeper.n_trials=2"]
    if engine == "ray":
        options.remove("hydra.sweeper.workers=ray")
    try:
        swept = sweep(
            project,
            tmp_path / engine,
            *options,
            "name=${oc.env:TRIAL_NAME}",
            "trainer.max_epochs=1",
        )
    finally:
        file.unlink()
    assert swept.states() == {"COMPLETE": 2}
    for row in swept.rows:
        config = (swept.folder / row["folder"] / "config.yaml").read_text("utf-8")
        assert "name: from_file\n" in config
    logs = [*cluster.folder.rglob("*"), *swept.folder.rglob("*")]
    texts = [path.read_bytes() for path in logs if path.is_file()]
    assert len(texts) > 20
    assert not any(b"CANARYtoken" in text for text in texts)


@pytest.mark.slow
def test_node_that_dies_loses_nothing_under_ray_tune(
    cluster: Cluster, project: BakedProject, tmp_path: Path
) -> None:
    """Ray Tune begins such trials again itself; they must be told from those that crashed."""
    swept = Swept(tmp_path / "study")
    engine = ("hydra/sweeper=ray", *cluster.options[1:])
    options = (LR, *engine, "hydra.sweeper.n_trials=12", *SLOWLY)
    process = start_sweep(project, swept.folder, *options)
    wait_until(lambda: process.poll() is not None or reports_of(swept) >= 6, 240)
    cluster.nodes["one"].send_signal(signal.SIGKILL)
    printed = process.communicate(timeout=400)[0]
    assert process.returncode == 0, printed
    # Trial 4 kills itself, whenever it is tried.
    states = {int(row["number"]): row["state"] for row in swept.rows}
    assert states == {n: "failed" if n == 4 else "finished" for n in range(12)}
    assert {row["worker"].split()[-1] for row in swept.rows} & {"head", "two"}


def reports_of(swept: Swept) -> int:
    """How many epochs the trials of a sweep have reported."""
    if not (swept.folder / "journal.log").exists():
        return 0
    return sum(len(trial.intermediate_values) for trial in swept.study.trials)


@pytest.mark.slow
def test_killed_sweep_goes_on(cluster: Cluster, project: BakedProject, tmp_path: Path) -> None:
    """The cluster outlives the command, and must not go on working for nobody."""
    kill_and_continue(project, tmp_path / "killed", *cluster.options, total=12, kills=2)


@pytest.mark.slow
def test_kills_lose_no_paused_trial(
    cluster: Cluster, project: BakedProject, tmp_path: Path
) -> None:
    """A paused trial is resumed on any node, and belongs to no command."""
    swept = outlive_kills(project, tmp_path / "paused", 12, 2, 1, *cluster.options)
    check_nothing_is_lost(swept, 12)


def test_trial_that_is_too_large_is_told_at_once(
    cluster: Cluster, project: BakedProject, tmp_path: Path
) -> None:
    """Ray itself would wait for such a node for ever."""
    options = (LR, *cluster.options, "hydra.sweeper.cpus_per_trial=64")
    swept = sweep(project, tmp_path / "large", *options, check=False)
    assert "No node of the cluster has 64 cores and 0 GPUs" in swept.printed
    assert "Traceback" not in swept.printed


def test_nodes_without_our_disk_send_what_trials_wrote(sweeps_package: Any, tmp_path: Path) -> None:
    """Most clusters share no disk, and a winner without its checkpoint is worth little."""
    module = sweeps_package("ray_cluster")
    folder = tmp_path / "sweep"
    trial, earlier = folder / "trials/0003", folder / "trials/0001"
    for name in ("checkpoints/last.ckpt", "fold_1/checkpoints/best.ckpt", "run.log"):
        (earlier / name).parent.mkdir(parents=True, exist_ok=True)
        (earlier / name).write_bytes(b"weights")
    files = {earlier: module._pack(earlier, module.CHECKPOINTS)}
    # A resumed trial takes over the best epoch before its pause, and needs no log.
    assert set(files[earlier]) == {"checkpoints/last.ckpt", "fold_1/checkpoints/best.ckpt"}
    sweeps_package("processes").start_server()
    worker = module.RemoteWorker(1, folder / ".shared-not-here", {})
    arguments = (earlier / "checkpoints/last.ckpt", trial / "copy.ckpt")
    events, packed = worker.start(3, trial / "run.log", shutil.copyfile, arguments, files)
    while not packed:
        more, packed = worker.listen()
        events += more
    assert isinstance(events[-1].result, Path)
    # It worked on copies, and what it wrote comes only with its answer.
    assert not trial.exists()
    # The node's disk does not fill up.
    assert not list(worker.place.rglob("*.ckpt"))
    module._unpack(packed, trial)
    assert (trial / "copy.ckpt").read_bytes() == b"weights"
    assert (trial / "run.log").is_file()


@pytest.mark.parametrize("name", ["aws", "gcp", "on_premise"])
def test_launcher_takes_our_files(name: str, demo: BakedProject) -> None:
    """A file that the launcher refuses is found out on the day before a deadline."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(demo.read(f"clusters/{name}.yaml"))
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["file_mounts"]["~/demo"] == "."
    starts = [*prepared["head_start_ray_commands"], *prepared["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    kinds = prepared["available_node_types"].values()
    assert name == "on_premise" or any("SPOT" in str(kind).upper() for kind in kinds)


MISTAKES = {
    ("hydra.sweeper.address=auto",): "address needs hydra.sweeper.workers=ray.",
    ("hydra.sweeper.workers=rayy",): "must be an integer of at least 1, ray, or null, not 'rayy'.",
    ("hydra.sweeper.cpus_per_trial=0",): "cpus_per_trial must be a number above 0, not 0.",
    (
        "hydra.sweeper.workers=ray",
        "hydra.sweeper.address=127.0.0.1:1",
    ): "Nothing answers at 127.0.0.1:1, which hydra.sweeper.address names",
}


@pytest.mark.parametrize("options", MISTAKES, ids=" ".join)
def test_mistake_is_told_in_one_sentence(
    options: tuple[str, ...], demo: BakedProject, tmp_path: Path
) -> None:
    """Who mistypes an option wants to know before the night begins."""
    swept = sweep(demo, tmp_path / "none", LR, *options, check=False)
    assert MISTAKES[options] in swept.printed
    assert len(swept.printed.splitlines()) == 1
    assert not swept.folder.exists()


def test_missing_package_is_named_with_the_command(
    sweeps_package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray is an extra: most who try it first do not have it."""
    module = sweeps_package("ray_cluster")
    monkeypatch.setitem(sys.modules, "ray", None)
    errors = project_module("demo", "errors")
    with pytest.raises(errors.UserError, match=r"uv sync --extra ray"):
        module.connect(None)


def test_damaged_installation_is_named(
    sweeps_package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advice to choose another folder for the runs would send a user the wrong way."""
    import ray

    def fail(**options: Any) -> None:
        raise PermissionError(13, "Permission denied", "ray/core/src/ray/gcs/gcs_server")

    monkeypatch.setattr(ray, "init", fail)
    errors = project_module("demo", "errors")
    with pytest.raises(errors.UserError, match="install it again"):
        sweeps_package("ray_cluster").connect(None)
