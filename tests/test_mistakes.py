"""What people mistype, lose or misplace: one sentence that names the way out, and no training."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from .conftest import BakedProject
from .own_data import write_flats, write_fruit
from .training_runs import TrainedRun, script, train

LONGEST = 400
WARM_START = Path(__file__).with_name("warm_start.py")
Answers = dict[str, "CompletedProcess[str]"]


@dataclass(frozen=True)
class Places:
    """Everything that the commands below are given."""

    folder: Path
    run: Path

    def __getitem__(self, name: str) -> str:
        """The path of a file: `places["cut.ckpt"]`."""
        return str(self.folder / name)


Command = Callable[[Places], tuple[str, ...]]


def best(p: Places) -> str:
    return f"ckpt_path={p.run}/checkpoints/best.ckpt"


def last(p: Places) -> str:
    return f"ckpt_path={p.run}/checkpoints/last.ckpt"


# Name: command, and words of the answer.
MISTAKES: dict[str, tuple[Command, list[str]]] = {
    # Misspelt
    "key": (lambda p: ("train.py", "optimzer.lr=1"), ["'optimizer.lr'"]),
    "group": (lambda p: ("train.py", "optimzer=adam"), ["'optimizer'"]),
    "choice": (lambda p: ("train.py", "model=cnnn"), ["'cnn'"]),
    "choice in a list": (lambda p: ("train.py", "logger=[tensorboard,cvs]"), ["'csv'"]),
    "folder of a choice": (lambda p: ("train.py", "model/net=cnn"), ["model/net"]),
    "experiment": (lambda p: ("train.py", "experiment=digit"), ["'digits'"]),
    "preset": (lambda p: ("train.py", "debug=fats"), ["'fast'"]),
    "unknown key": (lambda p: ("train.py", "colour=red"), ["'colour'", "optimizer", "trainer"]),
    "key of other data": (lambda p: ("train.py", "data.target=price"), ["'data.target'"]),
    "key in evaluate": (lambda p: ("evaluate.py", "ckpt_pth=x"), ["'ckpt_path'"]),
    "key in predict": (lambda p: ("predict.py", "outptu=x"), ["'output'"]),
    "added key": (lambda p: ("train.py", "+optimzer.lr=1"), ["'optimizer'"]),
    "added argument": (lambda p: ("train.py", "+trainer.max_epoch=3"), ["'max_epochs'"]),
    "no value": (lambda p: ("train.py", "trainer.max_epochs"), ["key=value"]),
    "no group": (lambda p: ("train.py", "experiment=null"), ["~experiment"]),
    "metric": (lambda p: ("train.py", "objective.metric=val/accuracy"), ["'val/acc'"]),
    "metric of a callback": (
        lambda p: ("train.py", "callbacks.early_stopping.monitor=val/los"),
        ["EarlyStopping", "'val/loss'"],
    ),
    "optimizer": (lambda p: ("train.py", "optimizer.name=Adm"), ["'Adam'"]),
    "net": (lambda p: ("train.py", "model.net.name=cnnn"), ["'cnn'"]),
    # Left out
    "no checkpoint": (lambda p: ("evaluate.py",), ["ckpt_path=..."]),
    "no input": (lambda p: ("predict.py", best(p)), ["input=..."]),
    # Of the wrong kind
    "batch size": (lambda p: ("train.py", "data.batch_size=0"), ["data.batch_size", "at least 1"]),
    "negative seed": (lambda p: ("train.py", "seed=-1"), ["seed", "from 0"]),
    "seed of text": (lambda p: ("train.py", "seed=abc"), ["seed", "whole number"]),
    "rate of text": (lambda p: ("train.py", "optimizer.lr=abc"), ["optimizer.lr", "'abc'"]),
    "negative rate": (lambda p: ("train.py", "optimizer.lr=-1"), ["learning rate", "-1"]),
    "warm-up": (lambda p: ("train.py", "scheduler.warmup=2"), ["warmup", "from 0 to 1"]),
    "epochs of text": (
        lambda p: ("train.py", "trainer.max_epochs=abc"),
        ["trainer.max_epochs", "number"],
    ),
    "half an epoch": (
        lambda p: ("train.py", "trainer.max_epochs=1.5"),
        ["trainer.max_epochs", "whole number"],
    ),
    "switch": (lambda p: ("train.py", "compile=maybe"), ["compile", "true or false"]),
    "precision": (lambda p: ("train.py", "trainer.precision=bf17"), ["bf17", "bf16-mixed"]),
    "width of text": (lambda p: ("train.py", "model.net.width=wide"), ["'cnn'"]),
    "no end": (
        lambda p: ("train.py", "scheduler=one_cycle", "trainer.max_epochs=-1"),
        ["one_cycle", "trainer.max_epochs"],
    ),
    "classifier for numbers": (
        lambda p: ("train.py", "data=diabetes"),
        ["regression", "model=mlp_regressor"],
    ),
    "regressor for classes": (
        lambda p: ("train.py", "model=mlp_regressor"),
        ["classification", "model=mlp"],
    ),
    "pictures wanted": (
        lambda p: ("train.py", *own(p, "flats.csv"), "data.target=dear", "model=cnn"),
        ["'cnn'", "images"],
    ),
    # Not on this machine
    "no GPU": (lambda p: ("train.py", "trainer=gpu"), ["gpu", "trainer=auto"]),
    "no logger": (lambda p: ("train.py", "logger=wandb"), ["wandb", "--extra wandb"]),
    # Checkpoints
    "lost checkpoint": (lambda p: ("evaluate.py", best(p) + "x"), ["best.ckptx", "best.ckpt."]),
    "cut checkpoint": (lambda p: ("train.py", f"ckpt_path={p['cut.ckpt']}"), ["cut.ckpt"]),
    "empty checkpoint": (lambda p: ("evaluate.py", f"ckpt_path={p['empty.ckpt']}"), ["cut off"]),
    "foreign checkpoint": (
        lambda p: ("predict.py", f"ckpt_path={p['foreign.ckpt']}", "input=."),
        ["foreign.ckpt", "not a checkpoint of this project"],
    ),
    "code in a checkpoint": (
        lambda p: ("evaluate.py", f"ckpt_path={p['code.ckpt']}"),
        ["code.ckpt", "code"],
    ),
    "resume with code": (lambda p: ("train.py", f"ckpt_path={p['pickle.ckpt']}"), ["pickle.ckpt"]),
    "checkpoint of a function": (
        lambda p: ("evaluate.py", f"ckpt_path={p['function.ckpt']}"),
        ["os:system"],
    ),
    "other width": (
        lambda p: ("train.py", last(p), "model.net.width=16", "trainer.max_epochs=40"),
        ["(32, 1, 3, 3)", "(16, 1, 3, 3)"],
    ),
    "other model": (
        lambda p: ("train.py", last(p), "experiment=diabetes", "trainer.max_epochs=90"),
        ["Classifier", "Regressor"],
    ),
    "longer resume": (
        lambda p: ("train.py", last(p), "trainer.max_epochs=40"),
        ["cosine", "380", "760"],
    ),
    "finished": (lambda p: ("train.py", last(p)), ["20", "trainer.max_epochs"]),
    "other data": (lambda p: ("evaluate.py", best(p), "data=diabetes"), ["trained on"]),
    "other part": (lambda p: ("evaluate.py", best(p), "split=train"), ["val or test"]),
    # Data
    "no target": (lambda p: ("train.py", *own(p, "flats.csv")), ["data.target", "dear"]),
    "lost target": (
        lambda p: ("train.py", *own(p, "flats.csv"), "data.target=rent"),
        ["'rent'", "price"],
    ),
    "infinite number": (
        lambda p: ("train.py", *own(p, "infinite.csv"), "data.target=dear"),
        ["'area'", "line 5"],
    ),
    "NaN in the target": (
        lambda p: ("train.py", *own(p, "nan.csv"), "data.target=dear"),
        ["'dear'", "line 5"],
    ),
    "lost table": (lambda p: ("train.py", *own(p, "lost.csv"), "data.target=dear"), ["lost.csv"]),
    "empty class": (
        lambda p: ("train.py", "experiment=image_folder", f"data.path={p['fruit']}"),
        ["quince", "remove the folder"],
    ),
    "lost input": (lambda p: ("predict.py", best(p), f"input={p['lost']}"), ["lost"]),
    "table for pictures": (
        lambda p: ("predict.py", best(p), f"input={p['flats.csv']}"),
        ["pictures", "give a folder"],
    ),
    # Places
    "run in a file": (
        lambda p: ("train.py", f"hydra.run.dir={p['flats.csv']}/run"),
        ["cannot be written", "paths.log_dir"],
    ),
    "logs in a file": (
        lambda p: ("train.py", f"paths.log_dir={p['flats.csv']}"),
        ["cannot be written", "paths.log_dir"],
    ),
    "table in a file": (
        lambda p: ("predict.py", best(p), "input=.", f"output={p['flats.csv']}/table.csv"),
        ["table.csv", "cannot be written"],
    ),
    "used folder": (lambda p: ("train.py", f"hydra.run.dir={p.run}"), ["already holds a run"]),
    "lost logs": (lambda p: ("runs.py", p["lost"]), ["lost", "train first"]),
    "unknown column": (lambda p: ("runs.py", str(p.run), "--sort", "tset"), ["'tset'", "test"]),
}


# One of each script in an interpreter of its own, where nothing was imported before.
FRESH = ["metric", "cut checkpoint", "code in a checkpoint", "foreign checkpoint"]


def own(p: Places, name: str) -> tuple[str, ...]:
    return ("experiment=csv", f"data.path={p[name]}")


class Code:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def places(digits: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Places:
    folder = tmp_path_factory.mktemp("places")
    content = digits.checkpoint().read_bytes()
    (folder / "cut.ckpt").write_bytes(content[: len(content) // 2])
    (folder / "empty.ckpt").write_bytes(b"")
    torch.save({"state_dict": {}}, folder / "foreign.ckpt")
    torch.save(digits.saved() | {"code": Code(folder / "executed")}, folder / "code.ckpt")
    (folder / "pickle.ckpt").write_bytes(pickle.dumps(Code(folder / "executed")))
    torch.save(digits.saved() | {"model_class": "os:system"}, folder / "function.ckpt")
    write_flats(folder / "flats.csv", rows=60)
    lines = (folder / "flats.csv").read_text("utf-8").splitlines()
    cells = lines[4].split(",")
    for name, column, value in (("infinite", 2, "inf"), ("nan", 5, "NaN")):
        changed = ",".join([*cells[:column], value, *cells[column + 1 :]])
        text = "\n".join([*lines[:4], changed, *lines[5:]])
        (folder / f"{name}.csv").write_text(text + "\n", "utf-8")
    write_fruit(folder / "fruit", per_class=4)
    (folder / "fruit" / "quince").mkdir()
    shutil.copytree(digits.folder, folder / "run")
    return Places(folder, folder / "run")


@pytest.fixture(scope="module")
def without_wandb(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH that hides the package, which may be installed here."""
    folder = tmp_path_factory.mktemp("without_wandb")
    (folder / "sitecustomize.py").write_text("import sys\n\nsys.modules['wandb'] = None\n")
    return str(folder)


@pytest.fixture(scope="module")
def answers(
    demo: BakedProject,
    places: Places,
    without_wandb: str,
    side_by_side: ThreadPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What all commands of this module answered."""
    folder = tmp_path_factory.mktemp("refused")
    commands = {}
    for name, (command, _) in MISTAKES.items():
        words = command(places)
        placed = any(word.startswith(("hydra.run.dir=", "paths.log_dir=")) for word in words)
        if not placed and words[0] != "runs.py":
            words += (f"hydra.run.dir={folder / name.replace(' ', '_')}",)
        commands[name] = words

    def run_fresh(name: str) -> Answers:
        return {name: script(demo, *commands[name], check=False)}

    def run_warm(names: list[str]) -> Answers:
        file = folder / f"{names[0]}.json"
        file.write_text(json.dumps([commands[name] for name in names]))
        printed = script(demo, str(WARM_START), str(file), python_path=without_wandb).stdout
        return dict(zip(names, (CompletedProcess(**a) for a in json.loads(printed)), strict=True))

    warm = [name for name in MISTAKES if name not in FRESH]
    jobs = [side_by_side.submit(run_warm, warm[start::2]) for start in range(2)]
    jobs += [side_by_side.submit(run_fresh, name) for name in FRESH]
    return {name: answer for job in jobs for name, answer in job.result().items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_told_in_one_sentence(answers: Answers, places: Places, name: str) -> None:
    """A traceback of sixty lines tells a newcomer nothing, a run that starts anyway even less."""
    done = answers[name]
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[0].endswith((".", "?"))
    assert len(lines[0].replace(str(places.folder), "")) < LONGEST
    for words in MISTAKES[name][1]:
        assert words in lines[0]
    assert "Traceback" not in done.stdout
    assert "epoch 1/" not in done.stdout


def test_no_code_of_a_checkpoint_was_run(answers: Answers, places: Places) -> None:
    """A checkpoint from the internet must not take over the machine."""
    assert not (places.folder / "executed").exists()
    # The trap works: without protection it would have snapped.
    torch.load(places["code.ckpt"], weights_only=False)
    assert (places.folder / "executed").exists()


def test_nothing_was_written_over(answers: Answers, places: Places, digits: TrainedRun) -> None:
    """A command that is refused must leave the run that it was aimed at as it was."""
    for file in digits.folder.rglob("*"):
        if file.is_file():
            copy = places.run / file.relative_to(digits.folder)
            assert copy.read_bytes() == file.read_bytes()


def test_exploding_loss_is_located(demo: BakedProject, tmp_path: Path) -> None:
    """A loss that is NaN since step 3 of 10,000 wastes a night unless it stops the run."""
    options = ("optimizer.lr=1e30", "scheduler=constant", f"hydra.run.dir={tmp_path}")
    done = script(demo, "train.py", *options, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for words in ("NaN", "batch 1 of epoch 0", "1e+30", "optimizer.lr", "debug=nan"):
        assert words in line
    run = TrainedRun(tmp_path, done)
    assert run.manifest["status"] == "failed"
    assert "batch 1 of epoch 0" in run.manifest["error"]


def test_constant_rate_may_go_on_for_longer(
    demo: BakedProject, digits: TrainedRun, tmp_path: Path
) -> None:
    """What is refused to a cosine is what the constant schedule is for."""
    options = ("scheduler=constant", "logger=none")
    first = train(demo, tmp_path / "first", *options, "trainer.max_epochs=1")
    longer = (f"ckpt_path={first.checkpoint('last')}", "trainer.max_epochs=2")
    assert train(demo, tmp_path / "second", *options, *longer).metrics["final"]["epoch"] == 1
