"""The file `.env`: every command and every trial reads it, and no run contains its secrets."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Bake, BakedProject
from ..support.sweeps import sweep_command
from ..support.training_runs import ON_CPU

pytest.importorskip("dotenv")

WITNESS = '''
"""Writes what a run sees, as hashes: the folder of a run must not contain the values."""

import hashlib
import json
import os
from pathlib import Path

from pytorch_lightning import Callback


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()


class Witness(Callback):
    def __init__(self, token, **more):
        self.seen = {"config": digest(token)}
        for name in ("CHAT_TOKEN", "OPENAI_KEY", "PLACE", "SHELL_WINS"):
            self.seen[name] = digest(os.environ[name])

    def on_fit_start(self, trainer, pl_module):
        print("the token is", os.environ["CHAT_TOKEN"])
        Path(trainer.default_root_dir, "seen.json").write_text(json.dumps(self.seen))
'''

# Quotes, a comment, a reference and an export, as in the files that people have.
FILE = """\
# Of the chat.
CHAT_TOKEN='CANARY token 1'
export OPENAI_KEY=CANARYkey2  # of the project
PLACE=${HOME}/data
SHELL_WINS=file
"""
SHELL = {"HOME": "/home/ada", "SHELL_WINS": "shell"}
SEEN = {
    "config": "CANARY token 1",
    "CHAT_TOKEN": "CANARY token 1",
    "OPENAI_KEY": "CANARYkey2",
    "PLACE": "/home/ada/data",
    "SHELL_WINS": "shell",
}
OPTIONS = (
    "+callbacks.witness._target_=witness.Witness",
    "+callbacks.witness.token=${oc.env:CHAT_TOKEN}",
    "+callbacks.witness.place=${oc.env:PLACE}",
    "model=mlp",
    "trainer.max_epochs=1",
)


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    """A project with a `.env`, and with a callback that reads its variables."""
    project = bake(project_name="With environment")
    (project.root / "witness.py").write_text(WITNESS)
    (project.root / ".env").write_text(FILE)
    return project


def assert_seen(folder: Path) -> None:
    seen = json.loads((folder / "seen.json").read_text())
    assert seen == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in SEEN.items()}


def assert_hidden(folder: Path, done: subprocess.CompletedProcess[str]) -> None:
    texts = {"the terminal": (done.stdout + done.stderr).encode()}
    texts |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(texts) > 5
    assert [name for name, text in texts.items() if b"CANARY" in text] == []


def test_run_reads_variables_and_does_not_contain_them(
    project: BakedProject, tmp_path: Path
) -> None:
    """A key in `.env` that reaches neither the config nor the loggers, or that is in run.json."""
    folder = tmp_path / "run"
    command = ("train.py", f"hydra.run.dir={folder}", "logger=[tensorboard,csv]", *OPTIONS)
    # Not warm: the file is read when the project is first imported.
    done = project.run("python", *command, check=True, **ON_CPU, **SHELL)
    assert_seen(folder)
    # Printed by the callback itself, and only there.
    assert done.stdout.count("the token is CANARY token 1\n") == 1
    done.stdout = done.stdout.replace("the token is CANARY token 1\n", "")
    assert_hidden(folder, done)
    config = (folder / "config.yaml").read_text("utf-8")
    assert "token: '***'" in config or "token: ***" in config
    # A path is no secret: without it, the run could not be repeated.
    assert "place: /home/ada/data" in config


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_trials_read_variables(project: BakedProject, tmp_path: Path, method: str) -> None:
    """Trials that cannot read the key of a logger, on Linux or on Windows."""
    folder = tmp_path / method
    options = ("hydra.sweeper.n_trials=2", "hydra.sweeper.workers=2", "optimizer.lr=1e-3,1e-2")
    command = sweep_command(folder, *OPTIONS, *options)
    start = {"WORKBENCH_START_METHOD": "spawn"} if method == "spawn" else {}
    done = project.run("python", *command, check=True, **ON_CPU, **SHELL, **start)
    for trial in ("0000", "0001"):
        assert_seen(folder / "trials" / trial)
        log = folder / "trials" / trial / "run.log"
        # Output that does not pass through a logger, which only the callback can keep clean.
        log.write_text(log.read_text("utf-8").replace("the token is CANARY token 1", ""), "utf-8")
    assert_hidden(folder, done)


def test_other_commands_read_variables(project: BakedProject) -> None:
    """A config that composes in a training and not with `--cfg` cannot be inspected."""
    done = project.run("python", "train.py", "--cfg", "job", "name=${oc.env:PLACE}", "--resolve")
    assert "/data\n" in done.stdout


ENCODINGS = {
    "plain": "ADDED=caf\u00e9\n".encode(),
    # The editors of Windows.
    "with a byte order mark": "ADDED=caf\u00e9\r\n".encode("utf-8-sig"),
    # echo ADDED=... > .env in PowerShell.
    "UTF-16": "ADDED=caf\u00e9\r\n".encode("utf-16"),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_file_of_any_editor_is_read(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """On Windows, a first variable whose name begins with an invisible character."""
    monkeypatch.delenv("ADDED", raising=False)
    (tmp_path / ".env").write_bytes(ENCODINGS[encoding])
    env_file = package("env_file")
    env_file.load(tmp_path)
    assert env_file.added()["ADDED"] == "caf\u00e9"
    monkeypatch.delenv("ADDED")


def test_folder_of_that_name_is_left_alone(package: Any, tmp_path: Path) -> None:
    """Some people's virtual environment is in a folder `.env`."""
    (tmp_path / ".env").mkdir()
    package("env_file").load(tmp_path)


def test_missing_package_is_explained(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an update of the project, its environment may lack the package."""
    monkeypatch.setitem(sys.modules, "dotenv", None)
    (tmp_path / ".env").write_text("A=1\n")
    with pytest.raises(package("errors").UserError, match="uv sync"):
        package("env_file").load(tmp_path)
