"""Mistakes that only the model, the data or a checkpoint reveals: one sentence, and no training."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from ..conftest import BakedProject
from ..support.own_data import write_flats, write_fruit
from ..support.refusals import check_sentence, read_cases, words_of
from ..support.training_runs import TrainedRun, script, train

CASES = read_cases(r"""
train.py +trainer.max_epoch=3 -> 'max_epochs'
train.py data._target_=demo.data.DigitDataModule -> data._target_ | DigitDataModule
train.py objective.metric=val/accuracy -> 'val/acc'
train.py callbacks.early_stopping.monitor=val/los -> EarlyStopping | 'val/loss'
train.py scheduler=plateau scheduler.monitor=val/los -> scheduler.monitor | 'val/loss'
train.py optimizer.name=Adm -> 'Adam'
train.py +optimizer.momentum=0.9 -> 'AdamW' | momentum=0.9 | unexpected
train.py scheduler.name=cosinus -> 'cosine'
train.py model.net.name=cnnn -> 'cnn'
train.py model.net.width=wide -> model.net.width | wide
train.py model.net.width=0 -> model.net.width | at least 1
train.py scheduler=one_cycle trainer.max_epochs=-1 -> one_cycle | trainer.max_epochs
train.py trainer.precision=bf17 -> bf17 | bf16-mixed
train.py trainer.max_time=5h -> callbacks.time_limit | '5h' | DD:HH:MM:SS
train.py trainer.strategy=dpp -> 'dpp' | ddp
train.py trainer.devices=0 -> devices=0
train.py trainer=cpu trainer.devices=999 -> trainer.devices=999 | cores
train.py trainer=gpu -> gpu | trainer=auto
evaluate.py BEST trainer=gpu -> gpu | trainer=auto
train.py trainer.val_check_interval=1000 logger=none -> val_check_interval (1000) | 19
train.py data=diabetes -> regression | model=mlp_regressor
train.py model=mlp_regressor -> classification | model=mlp
train.py TABLE/flats.csv data.target=dear model=cnn -> 'cnn' | images
# Checkpoints
predict.py ckpt_path=FILES/foreign.ckpt input=. -> foreign.ckpt | not a checkpoint of this project
evaluate.py ckpt_path=FILES/code.ckpt -> code.ckpt | code
evaluate.py ckpt_path=FILES/function.ckpt -> os:system
evaluate.py ckpt_path=FILES/moved.ckpt -> moved.ckpt | data=<group>
train.py LAST model.net.width=16 trainer.max_epochs=40 -> (32, 1, 3, 3) | (16, 1, 3, 3)
train.py LAST experiment=diabetes trainer.max_epochs=90 -> Classifier | Regressor
train.py LAST trainer.max_epochs=40 -> cosine | 380 | 760
train.py LAST -> 20 | trainer.max_epochs
train.py LAST hydra.run.dir=RUN -> 20 | trainer.max_epochs
evaluate.py BEST data=diabetes -> trained on
evaluate.py BEST analyses=[confusoin] -> 'confusion'
evaluate.py BEST layer=net.featrues analyses=[pca] -> net.features
# Data
train.py TABLE/flats.csv -> data.target | dear
train.py TABLE/flats.csv data.target=rent -> 'rent' | price
train.py TABLE/flats.csv data.target=dear "data.delimiter='|'" -> 'dear' | data.delimiter
train.py TABLE/empty.csv data.target=dear -> empty.csv | no rows
train.py TABLE/latin.csv data.target=dear -> latin.csv | UTF-8
train.py TABLE/infinite.csv data.target=dear -> 'area' | line 5
train.py TABLE/nan.csv data.target=dear -> 'dear' | line 5
train.py TABLE/fruit/plum/0.png data.target=dear -> 0.png | CSV
train.py experiment=image_folder data.path=FILES/fruit -> quince | remove the folder
train.py experiment=image_folder data.path=FILES/fruit/plum -> 0 class folders
train.py experiment=image_folder data.path=FILES/broken -> 0.png | cannot be read
predict.py BEST input=FILES/flats.csv -> images | give a folder
predict.py BEST input=FILES/fruit/quince -> quince | no image
# Folders
predict.py BEST input=FILES/fruit output=FILES/flats.csv/t.csv -> t.csv | cannot be written
predict.py BEST input=FILES/fruit output=FILES/fruit -> fruit | cannot be written
train.py hydra.run.dir=RUN -> already holds a run
""")
# One of each script in an interpreter of its own, where nothing was imported before.
FRESH = (
    "train.py objective.metric=val/accuracy",
    "evaluate.py ckpt_path=FILES/code.ckpt",
    "predict.py ckpt_path=FILES/foreign.ckpt input=.",
)
# Only Lightning counts the batches, after the run has begun.
BEGUN = "train.py trainer.val_check_interval=1000 logger=none"
Answers = dict[str, CompletedProcess[str]]


class Code:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture(scope="module")
def places(digits: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("places")
    shutil.copy(digits.checkpoint(), folder / "moved.ckpt")
    torch.save({"state_dict": {}}, folder / "foreign.ckpt")
    torch.save(digits.saved() | {"code": Code(folder / "executed")}, folder / "code.ckpt")
    torch.save(digits.saved() | {"model_class": "os:system"}, folder / "function.ckpt")
    write_flats(folder / "flats.csv", rows=60)
    (folder / "empty.csv").write_text("")
    text = (folder / "flats.csv").read_text("utf-8")
    (folder / "latin.csv").write_text(text, "latin-1")
    lines = text.splitlines()
    cells = lines[4].split(",")
    for name, column, value in (("infinite", 2, "inf"), ("nan", 5, "NaN")):
        changed = ",".join([*cells[:column], value, *cells[column + 1 :]])
        text = "\n".join([*lines[:4], changed, *lines[5:]])
        (folder / f"{name}.csv").write_text(text + "\n", "utf-8")
    write_fruit(folder / "fruit", per_class=4)
    write_fruit(folder / "broken", per_class=8)
    (folder / "broken" / "plum" / "0.png").write_text("no picture")
    (folder / "fruit" / "quince").mkdir()
    shutil.copytree(digits.folder, folder / "run")
    return folder


@pytest.fixture(scope="module")
def answers(
    demo: BakedProject,
    places: Path,
    side_by_side: ThreadPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What each command answered."""
    folder = tmp_path_factory.mktemp("refused")

    def answer(number: int, command: str) -> CompletedProcess[str]:
        words = words_of(command, FILES=places, RUN=places / "run")
        if not any(word.startswith("hydra.run.dir=") for word in words):
            words.append(f"hydra.run.dir={folder}/{number}")
        return script(demo, *words, check=False, is_warm=command not in FRESH)

    assert {*FRESH, BEGUN} <= CASES.keys()
    return dict(zip(CASES, side_by_side.map(answer, range(len(CASES)), CASES), strict=True))


@pytest.mark.parametrize("command", CASES)
def test_mistake_is_reported_in_one_sentence(answers: Answers, places: Path, command: str) -> None:
    """A traceback of sixty lines tells a newcomer nothing, a run that starts anyway even less."""
    done = answers[command]
    check_sentence(done, CASES[command], places)
    (place,) = (word for word in done.args if word.startswith("hydra.run.dir="))
    folder = Path(place.partition("=")[2])
    assert command == BEGUN or folder == places / "run" or not folder.exists()


def test_no_code_of_a_checkpoint_was_run(answers: Answers, places: Path) -> None:
    """A checkpoint from the internet must not take over the machine."""
    assert not (places / "executed").exists()
    # The trap works: without protection it would have snapped.
    torch.load(places / "code.ckpt", weights_only=False)
    assert (places / "executed").exists()


def test_nothing_was_written_over(answers: Answers, places: Path, digits: TrainedRun) -> None:
    """A command that is refused must leave the run that it was aimed at as it was."""
    for file in digits.folder.rglob("*"):
        if file.is_file():
            copy = places / "run" / file.relative_to(digits.folder)
            # The log may tell of the command that was refused.
            same = bytes.startswith if file.name == "run.log" else bytes.__eq__
            assert same(copy.read_bytes(), file.read_bytes()), file


def test_exploding_loss_is_located(demo: BakedProject, tmp_path: Path) -> None:
    """A loss that is NaN since step 3 of 10,000 wastes a night unless it stops the run."""
    options = ("optimizer.lr=1e30", "scheduler=constant", f"hydra.run.dir={tmp_path}")
    done = script(demo, "train.py", *options, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    for words in ("NaN", "batch 1 of epoch 0", "1e+30", "learning rate", "debug=anomaly"):
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
