"""Nothing that is read is run, and nothing that is secret is written."""

import importlib
import importlib.util
import io
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ..conftest import ROOT, Bake, BakedProject
from ..support.sweeps import LR, start_sweep
from ..support.training_runs import ON_CPU, TrainedRun

# A callback as people write them, which holds secrets and is careless with them.
ALERT = '''
"""Posts to a chat."""

import logging
from pathlib import Path

from pytorch_lightning import Callback

log = logging.getLogger(__name__)


class Alert(Callback):
    def __init__(self, url, password, token, fails=False):
        self.url, self.token, self.fails = url, token, fails

    def on_fit_start(self, trainer, pl_module):
        log.info("posting to %s with %s", self.url, self.token)
        if self.fails and Path(trainer.default_root_dir).name == "0001":
            raise ConnectionError(f"cannot post to {self.url} with {self.token}")
'''
SECRETS = {"url": "CANARYurl1", "password": "CANARYpass2", "environment": 'CANARY\\env"3'}
OPTIONS = (
    "+callbacks.alert._target_=alert.Alert",
    f"+callbacks.alert.url=https://me:{SECRETS['url']}@chat.example/room",
    f"+callbacks.alert.password={SECRETS['password']}",
    "+callbacks.alert.token=${oc.env:CHAT_API_KEY}",
    "model=mlp",
    "trainer.max_epochs=1",
)
ENVIRONMENT = {"CHAT_API_KEY": SECRETS["environment"], "OTHER_TOKEN": "CANARYother4"}


class Code:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def alerting(bake: Bake) -> BakedProject:
    """A project with a careless callback, and a secret in a file that is not committed."""
    project = bake(project_name="Alerting", author_email="ada@example.org", git="yes")
    (project.root / "alert.py").write_text(ALERT)
    config = project.root / "configs" / "train.yaml"
    note = f"# sqlite://me:{SECRETS['url']}@here, and {SECRETS['environment']}\n"
    config.write_text(note + config.read_text("utf-8"))
    return project


def assert_no_secret(folder: Path, printed: str) -> None:
    """Look at every byte."""
    texts = {"the terminal": printed.encode()}
    texts |= {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert len(texts) > 5
    for name, text in texts.items():
        assert b"CANARY" not in text, (name, text[max(0, text.find(b"CANARY") - 200) :][:400])


def test_run_holds_no_secret(alerting: BakedProject, tmp_path: Path) -> None:
    """A run's folder is sent to colleagues, and attached to papers."""
    folder = tmp_path / "run"
    command = ("train.py", f"hydra.run.dir={folder}", "logger=[tensorboard,csv]")
    done = alerting.run_warm(*command, *OPTIONS, check=True, **ON_CPU, **ENVIRONMENT)
    assert_no_secret(folder, done.stdout + done.stderr)
    run = TrainedRun(folder, done)
    # What is hidden is shown as hidden, and nothing else is gone.
    assert "https://me:***@chat.example/room" in run.log
    assert "https://me:***@chat.example/room" in (folder / "config.yaml").read_text()
    assert "+callbacks.alert.password=***" in run.manifest["command"]
    assert "sqlite://me:***@here, and ***" in run.manifest["git"]["diff"]
    assert "max_epochs: 1" in (folder / "config.yaml").read_text()


def test_sweep_holds_no_secret(
    alerting: BakedProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither do the study, the report and the winner, nor what is said of a trial that failed."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "study"
    options = (*OPTIONS, "+callbacks.alert.fails=true", "hydra.sweeper.n_trials=3")
    process = start_sweep(alerting, folder, *options, LR, "hydra.sweeper.max_retries=0")
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert_no_secret(folder, printed)
    assert "cannot post to https://me:***@chat.example/room with ***" in printed
    assert "cannot post to https://me:***@" in (folder / "report.html").read_text("utf-8")
    # The winner says what its command has to add.
    assert "'+callbacks.alert.password=***': add it" in (folder / "best.yaml").read_text("utf-8")


REDACTED = {
    "postgresql://me:hush-hush@host:5432/db": "postgresql://me:***@host:5432/db",
    "mysql+pymysql://me:p@ss:w@host/db": "mysql+pymysql://me:***@host/db",
    "https://:onlyhush@host": "https://:***@host",
    "logger.mlflow.password=hush": "logger.mlflow.password=***",
    '{"api_key": "hush"}': '{"api_key": "***"}',
    "client_secret: 'hush'": "client_secret: '***'",
    # What is no secret.
    "http://127.0.0.1:5000/#/experiments": "http://127.0.0.1:5000/#/experiments",
    '{"uri": "http://host:5000", "author": "ada@example.org"}': (
        '{"uri": "http://host:5000", "author": "ada@example.org"}'
    ),
    "password: null": "password: null",
    "pad_token: <pad>": "pad_token: <pad>",
    "git@host:group/project.git": "git@host:group/project.git",
}


@pytest.mark.parametrize("text", REDACTED)
def test_only_secrets_are_hidden(package: Any, text: str) -> None:
    """A config that lost more than its passwords would repeat no run."""
    assert package("redact").redact(text) == REDACTED[text]


def test_secret_of_the_environment_is_hidden(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever text it comes, and however long it is; short words are no secrets."""
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", 'quo"te\\d')
    monkeypatch.setenv("SOME_TOKEN", "acc")
    redact = package("redact").redact
    assert redact("key 0123456789abcdef, val/acc") == "key ***, val/acc"
    assert redact(r'{"x": "quo\"te\\d"}') == '{"x": "***"}'


def evil_files(folder: Path, target: Path) -> list[Path]:
    """Files of many kinds that make a folder when they are unpickled."""
    import numpy as np

    numpy_file, torch_file = io.BytesIO(), io.BytesIO()
    np.save(numpy_file, np.array([Code(target)], dtype=object), allow_pickle=True)
    torch.save({"x": Code(target)}, torch_file)
    contents = {
        "array.npy": numpy_file.getvalue(),
        "tensor.pt": torch_file.getvalue(),
        "data.pkl": pickle.dumps(Code(target)),
        "picture.png": pickle.dumps(Code(target)),
        "table.csv": pickle.dumps(Code(target)),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    # The traps work.
    np.load(folder / "array.npy", allow_pickle=True)
    assert target.exists()
    target.rmdir()
    return [folder / name for name in contents]


def test_inputs_are_never_unpickled(package: Any, tmp_path: Path) -> None:
    """Pictures and tables come from anywhere; predict.py reads nothing else."""
    inputs, mistakes = package("data.inputs"), package("errors").UserError
    (tmp_path / "inputs").mkdir()
    files = evil_files(tmp_path / "inputs", tmp_path / "executed")
    size = {
        "channels": 1,
        "height": 8,
        "width": 8,
        "mean": [0.0],
        "std": [1.0],
        "value_range": None,
    }
    pictures = {"kind": "image"} | size
    for file in files:
        if file.suffix == ".csv":
            with pytest.raises(mistakes):
                inputs.read_inputs({"kind": "table", "columns": []}, file)
        else:
            assert inputs.read_inputs(pictures, file).errors
    assert not (tmp_path / "executed").exists()


def test_checkpoint_with_code_is_refused_whatever_the_environment_says(
    package: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that some tutorial wants must not open the door again."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    target, path = tmp_path / "executed", tmp_path / "0001" / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    content = {"state_dict": {}, "model_class": "models.classifier:Classifier", "epoch": 0}
    torch.save(content | {"code": Code(target)}, path)
    checkpoints, user_error = package("runs.checkpoints"), package("errors").UserError
    for read in (checkpoints.read_checkpoint, package("loading").load_model):
        with pytest.raises(user_error, match="arbitrary code"):
            read(path)
    # What Lightning reads itself, at a resume and at the test of the best.
    with pytest.raises(pickle.UnpicklingError):
        package("runs.checkpoint_file").CheckpointFile().load_checkpoint(path)
    # A trial that is tried again begins anew.
    assert package("sweeps.trial")._checkpoint([path.parents[1]]) is None
    assert not target.exists()
    with pytest.warns(match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"):
        torch.load(path)
    assert target.exists(), "the trap does not work"


@pytest.mark.parametrize("where", ["template", "github", "gitlab"])
def test_ci_is_pinned_and_may_read_only(bake: Bake, where: str) -> None:
    """Whoever takes over an action's tag would have the repository's secrets and its releases."""
    if where == "gitlab":
        text = bake(ci="gitlab").read(".gitlab-ci.yml")
        assert "uses:" not in text
    else:
        root = ROOT if where == "template" else bake(ci="github").root
        files = sorted((root / ".github" / "workflows").glob("*.yml"))
        texts = [file.read_text("utf-8") for file in files]
        text = "".join(texts)
        assert "pull_request_target" not in text
        for workflow in map(yaml.safe_load, texts):
            assert workflow["permissions"] == {"contents": "read"}
            used = re.findall(r"uses: (.*)", text)
            assert used
            for action in used:
                # The version as a comment: bots that raise versions read and write both.
                assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
            for job in workflow["jobs"].values():
                if "permissions" in job:
                    # The job that publishes the website runs no code of the repository.
                    assert job["permissions"] == {"pages": "write", "id-token": "write"}
                    assert [step.keys() for step in job["steps"]] == [{"uses"}]
                    assert job["if"] == "github.ref == 'refs/heads/main'"
                for step in job["steps"]:
                    if "actions/checkout" in step.get("uses", ""):
                        assert step["with"]["persist-credentials"] is False
                    # An expression in a script would run what a pull request is called.
                    assert "github.event." not in step.get("run", "")
    commands = "make audit" if where == "template" else "pip-audit"
    assert commands in text
    assert ("make lint" if where == "template" else "bandit") in text


@pytest.mark.skipif(importlib.util.find_spec("bandit") is None, reason="bandit is missing")
@pytest.mark.parametrize("logger", ["tensorboard", "mlflow"])
def test_project_passes_bandit(bake: Bake, logger: str) -> None:
    """A new project that fails its own lint teaches people to switch it off."""
    project = bake(project_name="Audited", logger=logger)
    command = (sys.executable, "-m", "bandit", "-qrc", "pyproject.toml", ".")
    assert project.run(*command).stdout == ""
    # It does look: not everything is excluded.
    (project.root / "audited" / "worse.py").write_text("import os\nos.system(input())\n")
    done = project.run(*command, check=False)
    (project.root / "audited" / "worse.py").unlink()
    assert done.returncode == 1
    assert "worse.py" in done.stdout
