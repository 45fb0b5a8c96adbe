"""The servers of loggers end during a training or a sweep, which must go on."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..conftest import BakedProject
from ..support.sweeps import LR, Swept, start_sweep, wait_until
from ..support.training_runs import ON_CPU, script
from ..support.wandb_server import end, wandb_server


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """The address of a real server, and how to kill it."""
    pytest.importorskip("mlflow")
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = ("--backend-store-uri", f"sqlite:///{folder}/server.db")
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", *store, "--port", str(port), "--workers", "1"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def kill() -> None:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    try:
        wait_until(lambda: answers(port))
        yield f"http://127.0.0.1:{port}", kill
    finally:
        kill()


def answers(port: int) -> bool:
    """Whether the server is ready."""
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
    except OSError:
        return False
    return True


def train_without_server(
    demo: BakedProject, folder: Path, end: Callable[[], None], *options: str, **variables: str
) -> None:
    """Train to the end, though the logger's server goes away after the second epoch."""
    process = subprocess.Popen(
        [sys.executable, "train.py", f"hydra.run.dir={folder}", *options],
        cwd=demo.root,
        env=os.environ | ON_CPU | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    log = folder / "run.log"
    wait_until(lambda: log.exists() and "epoch 2/" in log.read_text("utf-8"))
    end()
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0, printed
    assert "epoch 20/20" in log.read_text("utf-8")
    assert json.loads((folder / "run.json").read_text("utf-8"))["status"] == "finished"


@pytest.mark.slow
def test_training_survives_the_end_of_mlflows_server(demo: BakedProject, tmp_path: Path) -> None:
    """A server that is restarted at night held trainings up for minutes, and then ended them."""
    folder = tmp_path / "run"
    with mlflow_server(tmp_path / "server") as (address, kill):
        options = (f"logger.mlflow.tracking_uri={address}", "logger.mlflow.artifact_location=null")
        train_without_server(demo, folder, kill, "logger=mlflow", *options)
    assert (folder / "run.log").read_text("utf-8").count("MLFlowLogger does not work") == 1
    # One that was never there is the user's mistake.
    again = script(
        demo, "train.py", f"hydra.run.dir={tmp_path}/b", "logger=mlflow", *options, check=False
    )
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1].startswith(f"error: MLflow at {address} does not take")


@pytest.mark.slow
def test_sweep_survives_the_end_of_mlflows_server(demo: BakedProject, tmp_path: Path) -> None:
    """The trials are worth more than their curves in a viewer."""
    folder = tmp_path / "study"
    with mlflow_server(tmp_path / "server") as (address, kill):
        options = (f"logger.mlflow.tracking_uri={address}", "logger.mlflow.artifact_location=null")
        process = start_sweep(
            demo, folder, LR, "logger=mlflow", *options, "hydra.sweeper.n_trials=4"
        )
        wait_until(lambda: (folder / "trials" / "0000" / "run.json").exists())
        kill()
        printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert Swept(folder).states() == {"COMPLETE": 4}
    assert "mlflow could not record the end of the sweep" in printed


@pytest.mark.slow
def test_training_goes_on_without_wandbs_server(demo: BakedProject, tmp_path: Path) -> None:
    """A cluster's nodes without a network: the run is written to be sent later."""
    pytest.importorskip("wandb")
    secret = "CANARY" + 34 * "x"
    done = demo.run(
        "python",
        "train.py",
        f"hydra.run.dir={tmp_path}/run",
        "logger=wandb",
        "logger.wandb.offline=false",
        "trainer.max_epochs=2",
        "model=mlp",
        check=True,
        **ON_CPU,
        WANDB_BASE_URL="http://127.0.0.1:9",
        WANDB_API_KEY=secret,
        WANDB_INIT_TIMEOUT="5",
    )
    assert "W&B does not answer" in done.stdout
    (file,) = (tmp_path / "run").glob("wandb/offline-run-*/run-*.wandb")
    assert b"val/acc" in file.read_bytes()
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"CANARY" not in path.read_bytes(), path


@pytest.mark.slow
def test_training_survives_the_end_of_wandbs_server(demo: BakedProject, tmp_path: Path) -> None:
    """W&B waits for its server for hours at the end, and a cluster's job with it."""
    pytest.importorskip("wandb")
    folder = tmp_path / "run"
    options = ("logger=wandb", "logger.wandb.offline=false", "model=mlp")
    with wandb_server() as server:
        host, port = server.server_address[:2]
        variables = {
            "WANDB_BASE_URL": f"http://{host!s}:{port}",
            "WANDB_API_KEY": 40 * "x",
            "WANDB_FINISH_TIMEOUT": "5",
        }
        train_without_server(demo, folder, lambda: end(server), *options, **variables)
    (file,) = folder.glob("wandb/run-*/run-*.wandb")
    assert b"val/acc" in file.read_bytes()
    # Five seconds here; who sets nothing waits five minutes.
    words = "import os, workbench.loggers.wandb; print(os.environ['WANDB_FINISH_TIMEOUT'])"
    assert demo.run("python", "-c", words, check=True).stdout.split() == ["300"]
