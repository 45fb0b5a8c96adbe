"""What people mistype, lose or misplace: one sentence that names the way out, and no training."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from ..conftest import BakedProject
from ..support.modules import project_module
from ..support.own_data import write_flats, write_fruit
from ..support.training_runs import TrainedRun, script, train
from .test_start_time import imported

LONGEST = 400
# Nearly all of the seconds that a training takes to start.
SLOW_TO_IMPORT = {"lightning_fabric", "pytorch_lightning", "torch", "torchmetrics", "torchvision"}
LR = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
WARM_START = Path(__file__).parents[1] / "support" / "warm_start.py"
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


# Told before torch is imported. Name: command, and words of the answer.
AT_ONCE: dict[str, tuple[Command, list[str]]] = {
    # Misspelt
    "key": (lambda p: ("train.py", "optimzer.lr=1"), ["'optimizer.lr'"]),
    "group": (lambda p: ("train.py", "optimzer=adam"), ["'optimizer'"]),
    "choice": (lambda p: ("train.py", "model=cnnn"), ["'cnn'"]),
    "choice of data": (lambda p: ("train.py", "data=imagenet"), ["data=imagenet"]),
    "optimizer": (lambda p: ("train.py", "optimizer=Adam"), ["'adam'"]),
    "scheduler": (lambda p: ("train.py", "scheduler=cosin"), ["'cosine'"]),
    "logger": (lambda p: ("train.py", "logger=neptune"), ["tensorboard, wandb"]),
    "trainer": (lambda p: ("train.py", "trainer=cuda"), ["trainer=cuda", "gpu"]),
    "choice in a list": (lambda p: ("train.py", "logger=[tensorboard,cvs]"), ["'csv'"]),
    "callback in a list": (lambda p: ("train.py", "callbacks=[default,emaa]"), ["'ema'"]),
    "callback": (
        lambda p: ("train.py", "callbacks.early_stoping=null"),
        ["'callbacks.early_stopping'"],
    ),
    "folder of a choice": (lambda p: ("train.py", "model/net=cnn"), ["model/net"]),
    "experiment": (lambda p: ("train.py", "experiment=digit"), ["'digits'"]),
    "preset": (lambda p: ("train.py", "debug=fats"), ["'fast'"]),
    "unknown key": (lambda p: ("train.py", "colour=red"), ["'colour'", "optimizer", "trainer"]),
    "key of other data": (lambda p: ("train.py", "data.target=price"), ["'data.target'"]),
    "key of another logger": (
        lambda p: ("train.py", "logger.wandb.project=x"),
        ["logger.tensorboard"],
    ),
    "key in evaluate": (lambda p: ("evaluate.py", "ckpt_pth=x"), ["'ckpt_path'"]),
    "key in predict": (lambda p: ("predict.py", "outptu=x"), ["'output'"]),
    "key without its group": (lambda p: ("train.py", "lr=0.1"), ["'optimizer.lr'"]),
    "key as elsewhere": (lambda p: ("train.py", "epochs=3"), ["'trainer.max_epochs'"]),
    "key of a sweep": (lambda p: (*sweep(), "n_trials=5"), ["'hydra.sweeper.n_trials'"]),
    "added key": (lambda p: ("train.py", "+optimzer.lr=1"), ["'optimizer'"]),
    "config": (lambda p: ("train.py", "--config-name=trian"), ["'trian'", "'train'"]),
    "config folder": (
        lambda p: ("train.py", f"--config-dir={p['lost']}"),
        ["lost", "not found"],
    ),
    # Not as Hydra wants it
    "no value": (lambda p: ("train.py", "trainer.max_epochs"), ["key=value"]),
    "spaces": (lambda p: ("train.py", "trainer.max_epochs", "=", "3"), ["without spaces"]),
    "colon": (lambda p: ("train.py", "optimizer.lr:0.1"), ["key=value"]),
    "dashes": (
        lambda p: ("train.py", "--epochs", "3"),
        ["--epochs", "key=value", "without dashes"],
    ),
    "one dash": (lambda p: ("train.py", "-lr=0.1"), ["-lr=0.1", "without dashes"]),
    "flag in predict": (lambda p: ("predict.py", "--input", "."), ["--input", "without dashes"]),
    "flag in the middle": (
        lambda p: ("train.py", "seed=1", "-m", "optimizer.lr=0.1,0.2"),
        ["optimizer.lr=0.1,0.2", "-m", "before"],
    ),
    "value of a flag": (lambda p: ("train.py", "--cfg=jobs"), ["'jobs'", "--help"]),
    "open bracket": (lambda p: ("train.py", "callbacks=[default"), ["close", "quotes"]),
    "open quote": (lambda p: ("train.py", "name='my run"), ["close", "quotes"]),
    "bare semicolon": (
        lambda p: ("train.py", "experiment=csv", "data.delimiter=;"),
        ["'data.delimiter=\";\"'"],
    ),
    "bare checkpoint": (lambda p: ("evaluate.py", "best.ckpt"), ["ckpt_path= before"]),
    "no group": (lambda p: ("train.py", "model=null"), ["model", "configs/model/"]),
    "number for a group": (lambda p: ("train.py", "trainer=5"), ["model=cnn"]),
    "empty group": (lambda p: ("train.py", "data="), ["digits"]),
    "group left out": (lambda p: ("train.py", "~model"), ["model", "configs/model/"]),
    "group twice": (lambda p: ("train.py", "+data=csv"), ["data=...", "without a +"]),
    "value for options": (
        lambda p: ("train.py", "objective=val/acc"),
        ["objective holds options", "objective.<option>"],
    ),
    "several values": (lambda p: ("train.py", "optimizer.lr=0.1,0.01"), ["add -m"]),
    "decimal comma": (lambda p: ("train.py", "optimizer.lr=0,01"), ["optimizer.lr=0,01", "point"]),
    "lost reference": (lambda p: ("train.py", "optimizer.lr=${optimzer.rate}"), ["optimzer.rate"]),
    "lost variable": (lambda p: ("train.py", "name=${oc.env:NOT_SET}"), ["'NOT_SET'"]),
    "sweep of predict": (lambda p: ("predict.py", "-m", "input=a,b", "ckpt_path=x"), ["leave -m"]),
    # Left out
    "no checkpoint": (lambda p: ("evaluate.py",), ["ckpt_path=..."]),
    "no table": (lambda p: ("train.py", "experiment=csv"), ["data.path"]),
    # Of the wrong kind
    "batch size": (lambda p: ("train.py", "data.batch_size=0"), ["data.batch_size", "at least 1"]),
    "half a batch": (lambda p: ("train.py", "data.batch_size=32.5"), ["whole number", "32.5"]),
    "batch size of predict": (
        lambda p: ("predict.py", f"ckpt_path={p['empty.zip']}", "input=.", "batch_size=-1"),
        ["batch_size", "-1"],
    ),
    "negative seed": (lambda p: ("train.py", "seed=-1"), ["seed", "from 0"]),
    "seed of text": (lambda p: ("train.py", "seed=abc"), ["seed", "whole number"]),
    "seed of evaluate": (
        lambda p: ("evaluate.py", f"ckpt_path={p['empty.zip']}", "seed=x"),
        ["seed", "'x'"],
    ),
    "rate of text": (lambda p: ("train.py", "optimizer.lr=abc"), ["optimizer.lr", "'abc'"]),
    "negative rate": (lambda p: ("train.py", "optimizer.lr=-1"), ["optimizer.lr", "from 0", "-1"]),
    "rate without a value": (lambda p: ("train.py", "optimizer.lr="), ["optimizer.lr", "''"]),
    "infinite rate": (lambda p: ("train.py", "optimizer.lr=inf"), ["optimizer.lr", "inf"]),
    "list of rates": (lambda p: ("train.py", "optimizer.lr=[1,2]"), ["optimizer.lr", "[1, 2]"]),
    "negative decay": (
        lambda p: ("train.py", "optimizer.weight_decay=-1"),
        ["optimizer.weight_decay", "from 0"],
    ),
    "warm-up": (lambda p: ("train.py", "scheduler.warmup=2"), ["warmup", "from 0 to 1"]),
    "no steps": (
        lambda p: ("train.py", "scheduler=step", "scheduler.every=0"),
        ["scheduler.every", "at least 1"],
    ),
    "epochs of text": (
        lambda p: ("train.py", "trainer.max_epochs=abc"),
        ["trainer.max_epochs", "number"],
    ),
    "half an epoch": (
        lambda p: ("train.py", "trainer.max_epochs=1.5"),
        ["trainer.max_epochs", "whole number"],
    ),
    "negative epochs": (
        lambda p: ("train.py", "trainer.max_epochs=-5"),
        ["trainer.max_epochs", "-5"],
    ),
    "no batch a step": (
        lambda p: ("train.py", "trainer.accumulate_grad_batches=0"),
        ["trainer.accumulate_grad_batches", "at least 1"],
    ),
    "never validated": (
        lambda p: ("train.py", "trainer.check_val_every_n_epoch=0"),
        ["trainer.check_val_every_n_epoch", "at least 1"],
    ),
    "validated at once": (
        lambda p: ("train.py", "trainer.val_check_interval=0"),
        ["trainer.val_check_interval", "above 0"],
    ),
    "no training data": (
        lambda p: ("train.py", "trainer.limit_train_batches=0"),
        ["trainer.limit_train_batches", "above 0"],
    ),
    "negative clipping": (
        lambda p: ("train.py", "trainer.gradient_clip_val=-1"),
        ["trainer.gradient_clip_val", "from 0"],
    ),
    "no patience": (
        lambda p: ("train.py", "callbacks.early_stopping.patience=-1"),
        ["callbacks.early_stopping.patience", "-1"],
    ),
    "all for validation": (
        lambda p: ("train.py", "data.val_fraction=80"),
        ["data.val_fraction", "below 1"],
    ),
    "mode": (lambda p: ("train.py", "objective.mode=maximum"), ["objective.mode", "min or max"]),
    "switch": (lambda p: ("train.py", "compile=maybe"), ["compile", "true or false"]),
    "yes": (lambda p: ("train.py", "test=yes"), ["test", "true or false"]),
    "other part": (
        lambda p: ("evaluate.py", f"ckpt_path={p['empty.zip']}", "split=train"),
        ["val or test"],
    ),
    "analysis": (
        lambda p: ("evaluate.py", f"ckpt_path={p['empty.zip']}", "analyses=confusion"),
        ["analyses=[confusion]"],
    ),
    # Config files
    "tab in a config": (lambda p: (*with_configs(p), "optimizer=tab"), ["tab.yaml", "line 3"]),
    "key twice in a config": (
        lambda p: (*with_configs(p), "optimizer=twice"),
        ["twice.yaml", "duplicate key name"],
    ),
    "list for options": (lambda p: (*with_configs(p), "optimizer=list"), ["configs/optimizer/"]),
    "no package": (
        lambda p: (*with_configs(p), "experiment=no_package"),
        ["no_package.yaml", "@package _global_"],
    ),
    "group in a config": (
        lambda p: (*with_configs(p), "experiment=no_group"),
        ["no_group.yaml", "'modle'", "'model'"],
    ),
    "no override": (
        lambda p: (*with_configs(p), "experiment=no_override"),
        ["model", "override /model"],
    ),
    "tab in an experiment": (
        lambda p: ("train.py", f"experiment={p['tab.yaml']}"),
        ["tab.yaml", "line 3"],
    ),
    "key in an experiment": (
        lambda p: ("train.py", f"experiment={p['key.yaml']}"),
        ["'optimzer'", "'optimizer'"],
    ),
    "number for the trainer": (
        lambda p: ("train.py", f"experiment={p['number.yaml']}"),
        ["trainer"],
    ),
    "lost experiment": (
        lambda p: ("train.py", f"experiment={p['lost.yaml']}"),
        ["lost.yaml", "configs/experiment/"],
    ),
    # Not on this machine
    "no logger": (lambda p: ("train.py", "logger=wandb"), ["wandb", "--extra wandb"]),
    "no second logger": (
        lambda p: ("train.py", "logger=[tensorboard,mlflow]"),
        ["mlflow", "--extra mlflow"],
    ),
    # Files
    "lost checkpoint": (
        lambda p: ("evaluate.py", f"ckpt_path={p['cut.ckp']}"),
        ["cut.ckp", "cut.ckpt."],
    ),
    "folder for a checkpoint": (
        lambda p: ("evaluate.py", f"ckpt_path={p.folder}"),
        ["no checkpoint", ".ckpt."],
    ),
    "true for a checkpoint": (lambda p: ("train.py", "ckpt_path=true"), ["ckpt_path", "path"]),
    "cut checkpoint": (lambda p: ("train.py", f"ckpt_path={p['cut.ckpt']}"), ["cut off"]),
    "empty checkpoint": (lambda p: ("evaluate.py", f"ckpt_path={p['empty.csv']}"), ["cut off"]),
    "text for a checkpoint": (
        lambda p: ("predict.py", f"ckpt_path={p['tab.yaml']}", "input=."),
        ["tab.yaml", "something else"],
    ),
    "lost table": (
        lambda p: ("train.py", "experiment=csv", f"data.path={p['lost.csv']}", "data.target=x"),
        ["lost.csv"],
    ),
    "lost pictures": (
        lambda p: ("train.py", "experiment=image_folder", f"data.path={p['lost']}"),
        ["lost"],
    ),
    "lost input": (
        lambda p: ("predict.py", f"ckpt_path={p['empty.zip']}", f"input={p['lost']}"),
        ["input", "lost"],
    ),
    # Places
    "run in a file": (
        lambda p: ("train.py", f"hydra.run.dir={p['empty.csv']}/run"),
        ["cannot be written", "paths.log_dir"],
    ),
    "logs in a file": (
        lambda p: ("train.py", f"paths.log_dir={p['empty.csv']}"),
        ["cannot be written", "paths.log_dir"],
    ),
    "sweep in a file": (
        lambda p: (*sweep("optimizer.lr=0.1,0.2"), f"hydra.sweep.dir={p['empty.csv']}"),
        ["cannot be written", "hydra.sweep.dir"],
    ),
    "slash in a name": (lambda p: ("train.py", "name=a/b"), ["'a/b'", "slash"]),
    "lost logs": (lambda p: ("runs.py", p["lost"]), ["lost", "train first"]),
    "file for logs": (lambda p: ("runs.py", p["empty.csv"]), ["empty.csv", "no folder"]),
    "flag of runs": (lambda p: ("runs.py", "--srot", "test"), ["--srot", "--help"]),
    "two folders": (lambda p: ("runs.py", "a", "b"), ["b", "--help"]),
    "column": (lambda p: ("runs.py", p["runs"], "--sort", "tset"), ["'tset'", "test"]),
    # How a sweep runs
    "half a trial": (lambda p: (*sweep(), "hydra.sweeper.n_trials=1.5"), ["n_trials", "1.5"]),
    "no worker": (lambda p: (*sweep(), "hydra.sweeper.workers=0"), ["workers", "from 1"]),
    "no seed": (lambda p: (*sweep(), "hydra.sweeper.seeds=0"), ["seeds", "at least 1"]),
    "share of text": (
        lambda p: (*sweep(), "hydra.sweeper.gpus_per_trial=half"),
        ["gpus_per_trial", "'half'"],
    ),
    "number of a GPU": (lambda p: (*sweep(), "hydra.sweeper.gpus=0"), ["gpus", "[0,1]"]),
    "no core": (lambda p: (*sweep(), "hydra.sweeper.cpus_per_trial=0"), ["cpus_per_trial"]),
    "hour": (lambda p: (*sweep(), "hydra.sweeper.timeout=1h"), ["timeout", "seconds"]),
    "negative retries": (lambda p: (*sweep(), "hydra.sweeper.max_retries=-1"), ["max_retries"]),
    "address alone": (lambda p: (*sweep(), "hydra.sweeper.address=auto"), ["workers=ray"]),
    "slash in a study": (lambda p: (*sweep(), "hydra.sweeper.study_name=a/b"), ["study_name"]),
    "objective of text": (
        lambda p: (*sweep(), "hydra.sweeper.more_objectives=parameters"),
        ["more_objectives", "{parameters:min}"],
    ),
    "one limit": (lambda p: (*sweep(), "hydra.sweeper.limits=3"), ["limits", "{parameters:"]),
    "point elsewhere": (
        lambda p: (*sweep(), "hydra.sweeper.enqueue=[{optimizer.lrr:0.01}]"),
        ["optimizer.lrr", "'optimizer.lr'"],
    ),
    "points in another code": (
        lambda p: (*sweep(), f"hydra.sweeper.enqueue={p['latin.csv']}"),
        ["latin.csv", "UTF-8"],
    ),
    "no points": (
        lambda p: (*sweep(), f"hydra.sweeper.enqueue={p['empty.csv']}"),
        ["empty.csv", "no points"],
    ),
    "sampler as an engine": (lambda p: (*sweep(), "hydra/sweeper=tpe"), ["ax, optuna"]),
    "engine with a dot": (lambda p: (*sweep(), "hydra.sweeper=ax"), ["hydra/sweeper=ax"]),
    "sampler": (lambda p: (*sweep(), "hydra/sweeper/sampler=randm"), ["'random'"]),
    "pruner by name": (lambda p: (*sweep(), "hydra.sweeper.pruner=medin"), ["'median'"]),
    "fixed mistake": (lambda p: (*sweep(), "data.batch_size=0"), ["data.batch_size"]),
    "late mistake": (lambda p: sweep("data.batch_size=32,64,0"), ["data.batch_size", "not 0"]),
    "seed of several": (lambda p: sweep("seed=1,x"), ["seed", "'x'"]),
    "logger of a sweep": (lambda p: (*sweep(), "logger=wandb"), ["--extra wandb"]),
    # What a sweep varies
    "log from zero": (
        lambda p: sweep("optimizer.lr=tag(log,interval(0,1))"),
        ["logarithmic", "above 0"],
    ),
    "empty choice": (lambda p: sweep("optimizer.lr=choice()"), ["choice()"]),
    "empty range": (lambda p: sweep("data.batch_size=range(5,1)"), ["empty"]),
    "range without steps": (lambda p: sweep("data.batch_size=range(1,5,0)"), ["step"]),
    "one end": (lambda p: sweep("optimizer.lr=interval(1)"), ["interval(1)"]),
    "words for numbers": (lambda p: sweep("optimizer.lr=interval(a,b)"), ["interval(a,b)"]),
    "tag": (lambda p: sweep("optimizer.lr=tag(lgo,interval(0.1,1))"), ["'lgo'", "log"]),
    "function": (
        lambda p: sweep("optimizer.lr=loguniform(0.1,1)"),
        ["loguniform", "tag(log,interval"],
    ),
    "no pattern": (lambda p: sweep("model=glob(x*)"), ["matches no choice"]),
    "nothing varies": (lambda p: sweep("optimizer.lr=0.1"), ["No option varies"]),
    "space without its line": (
        lambda p: (*with_configs(p), "-m", "search_space=no_package"),
        ["@package hydra.sweeper.search_space"],
    ),
    "nested space": (
        lambda p: (*with_configs(p), "-m", "search_space=nested"),
        ["unknown key 'lr'", "optimizer.lr: choice"],
    ),
    "space of a number": (
        lambda p: (*with_configs(p), "-m", "search_space=number"),
        ["a single value", "interval(low,high)"],
    ),
    "condition": (
        lambda p: (*with_configs(p), "-m", "search_space=condition"),
        ["'wehn'", "'when'"],
    ),
    "condition on nothing": (
        lambda p: (*with_configs(p), "-m", "search_space=on_nothing"),
        ["optimizer.nme", "does not vary"],
    ),
    "circle": (lambda p: (*with_configs(p), "-m", "search_space=circle"), ["depend on each other"]),
    "tab in a space": (lambda p: (*with_configs(p), "-m", "search_space=tab"), ["tab.yaml"]),
}


# Seen when torch is there. Name: command, words of the answer, and what only torch can tell.
LATE: dict[str, tuple[Command, list[str], str]] = {
    "added argument": (lambda p: ("train.py", "+trainer.max_epoch=3"), ["'max_epochs'"], "class"),
    "target": (
        lambda p: ("train.py", "data._target_=demo.data.DigitDataModule"),
        ["data._target_", "DigitDataModule"],
        "class",
    ),
    "metric": (lambda p: ("train.py", "objective.metric=val/accuracy"), ["'val/acc'"], "model"),
    "metric of a callback": (
        lambda p: ("train.py", "callbacks.early_stopping.monitor=val/los"),
        ["EarlyStopping", "'val/loss'"],
        "model",
    ),
    "metric of a schedule": (
        lambda p: ("train.py", "scheduler=plateau", "scheduler.monitor=val/los"),
        ["scheduler.monitor", "'val/loss'"],
        "model",
    ),
    "optimizer": (lambda p: ("train.py", "optimizer.name=Adm"), ["'Adam'"], "optimizer"),
    "option of an optimizer": (
        lambda p: ("train.py", "+optimizer.momentum=0.9"),
        ["'AdamW'", "momentum=0.9", "unexpected"],
        "optimizer",
    ),
    "schedule": (lambda p: ("train.py", "scheduler.name=cosinus"), ["'cosine'"], "optimizer"),
    "net": (lambda p: ("train.py", "model.net.name=cnnn"), ["'cnn'"], "net"),
    "width of text": (
        lambda p: ("train.py", "model.net.width=wide"),
        ["model.net.width", "wide"],
        "net",
    ),
    "no width": (
        lambda p: ("train.py", "model.net.width=0"),
        ["model.net.width", "at least 1"],
        "net",
    ),
    "no end": (
        lambda p: ("train.py", "scheduler=one_cycle", "trainer.max_epochs=-1"),
        ["one_cycle", "trainer.max_epochs"],
        "optimizer",
    ),
    "precision": (
        lambda p: ("train.py", "trainer.precision=bf17"),
        ["bf17", "bf16-mixed"],
        "trainer",
    ),
    "duration": (
        lambda p: ("train.py", "trainer.max_time=5h"),
        ["callbacks.time_limit", "'5h'", "DD:HH:MM:SS"],
        "trainer",
    ),
    "strategy": (lambda p: ("train.py", "trainer.strategy=dpp"), ["'dpp'", "ddp"], "trainer"),
    "no device": (lambda p: ("train.py", "trainer.devices=0"), ["devices=0"], "trainer"),
    "many devices": (
        lambda p: ("train.py", "trainer=cpu", "trainer.devices=999"),
        ["trainer.devices=999", "cores"],
        "trainer",
    ),
    "no GPU": (lambda p: ("train.py", "trainer=gpu"), ["gpu", "trainer=auto"], "device"),
    "no GPU to evaluate on": (
        lambda p: ("evaluate.py", best(p), "trainer=gpu"),
        ["gpu", "trainer=auto"],
        "device",
    ),
    "interval": (
        lambda p: ("train.py", "trainer.val_check_interval=1000", "logger=none"),
        ["val_check_interval (1000)", "19"],
        "data",
    ),
    "classifier for numbers": (
        lambda p: ("train.py", "data=diabetes"),
        ["regression", "model=mlp_regressor"],
        "data",
    ),
    "regressor for classes": (
        lambda p: ("train.py", "model=mlp_regressor"),
        ["classification", "model=mlp"],
        "data",
    ),
    "pictures wanted": (
        lambda p: ("train.py", *own(p, "flats.csv"), "data.target=dear", "model=cnn"),
        ["'cnn'", "images"],
        "data",
    ),
    # Checkpoints
    "foreign checkpoint": (
        lambda p: ("predict.py", f"ckpt_path={p['foreign.ckpt']}", "input=."),
        ["foreign.ckpt", "not a checkpoint of this project"],
        "checkpoint",
    ),
    "code in a checkpoint": (
        lambda p: ("evaluate.py", f"ckpt_path={p['code.ckpt']}"),
        ["code.ckpt", "code"],
        "checkpoint",
    ),
    "checkpoint of a function": (
        lambda p: ("evaluate.py", f"ckpt_path={p['function.ckpt']}"),
        ["os:system"],
        "checkpoint",
    ),
    "moved checkpoint": (
        lambda p: ("evaluate.py", f"ckpt_path={p['moved.ckpt']}"),
        ["moved.ckpt", "data=<group>"],
        "checkpoint",
    ),
    "other width": (
        lambda p: ("train.py", last(p), "model.net.width=16", "trainer.max_epochs=40"),
        ["(32, 1, 3, 3)", "(16, 1, 3, 3)"],
        "checkpoint",
    ),
    "other model": (
        lambda p: ("train.py", last(p), "experiment=diabetes", "trainer.max_epochs=90"),
        ["Classifier", "Regressor"],
        "checkpoint",
    ),
    "longer resume": (
        lambda p: ("train.py", last(p), "trainer.max_epochs=40"),
        ["cosine", "380", "760"],
        "checkpoint",
    ),
    "finished": (lambda p: ("train.py", last(p)), ["20", "trainer.max_epochs"], "checkpoint"),
    "finished in its folder": (
        lambda p: ("train.py", last(p), f"hydra.run.dir={p.run}"),
        ["20", "trainer.max_epochs"],
        "checkpoint",
    ),
    "other data": (
        lambda p: ("evaluate.py", best(p), "data=diabetes"),
        ["trained on"],
        "checkpoint",
    ),
    "other analysis": (
        lambda p: ("evaluate.py", best(p), "analyses=[confusoin]"),
        ["'confusion'"],
        "checkpoint",
    ),
    "other layer": (
        lambda p: ("evaluate.py", best(p), "layer=net.featrues", "analyses=[pca]"),
        ["net.features"],
        "checkpoint",
    ),
    # Data
    "no target": (lambda p: ("train.py", *own(p, "flats.csv")), ["data.target", "dear"], "data"),
    "lost target": (
        lambda p: ("train.py", *own(p, "flats.csv"), "data.target=rent"),
        ["'rent'", "price"],
        "data",
    ),
    "other delimiter": (
        lambda p: ("train.py", *own(p, "flats.csv"), "data.target=dear", "data.delimiter='|'"),
        ["'dear'", "data.delimiter"],
        "data",
    ),
    "empty table": (
        lambda p: ("train.py", *own(p, "empty.csv"), "data.target=dear"),
        ["empty.csv", "no rows"],
        "data",
    ),
    "table in another code": (
        lambda p: ("train.py", *own(p, "latin.csv"), "data.target=dear"),
        ["latin.csv", "UTF-8"],
        "data",
    ),
    "infinite number": (
        lambda p: ("train.py", *own(p, "infinite.csv"), "data.target=dear"),
        ["'area'", "line 5"],
        "data",
    ),
    "NaN in the target": (
        lambda p: ("train.py", *own(p, "nan.csv"), "data.target=dear"),
        ["'dear'", "line 5"],
        "data",
    ),
    "picture for a table": (
        lambda p: ("train.py", *own(p, "fruit/plum/0.png"), "data.target=dear"),
        ["0.png", "CSV"],
        "data",
    ),
    "empty class": (
        lambda p: ("train.py", "experiment=image_folder", f"data.path={p['fruit']}"),
        ["quince", "remove the folder"],
        "data",
    ),
    "no class": (
        lambda p: ("train.py", "experiment=image_folder", f"data.path={p['fruit/plum']}"),
        ["0 class folders"],
        "data",
    ),
    "broken picture": (
        lambda p: ("train.py", "experiment=image_folder", f"data.path={p['broken']}"),
        ["0.png", "cannot be read"],
        "data",
    ),
    "table for pictures": (
        lambda p: ("predict.py", best(p), f"input={p['flats.csv']}"),
        ["pictures", "give a folder"],
        "checkpoint",
    ),
    "nothing to predict on": (
        lambda p: ("predict.py", best(p), f"input={p['fruit/quince']}"),
        ["quince", "no picture"],
        "checkpoint",
    ),
    # Places
    "table in a file": (
        lambda p: ("predict.py", best(p), f"input={p['fruit']}", f"output={p['flats.csv']}/t.csv"),
        ["t.csv", "cannot be written"],
        "checkpoint",
    ),
    "folder for a table": (
        lambda p: ("predict.py", best(p), f"input={p['fruit']}", f"output={p['fruit']}"),
        ["fruit", "cannot be written"],
        "checkpoint",
    ),
    "used folder": (
        lambda p: ("train.py", f"hydra.run.dir={p.run}"),
        ["already holds a run"],
        "start",
    ),
}


# One of each script in an interpreter of its own, where nothing was imported before.
FRESH = ["metric", "code in a checkpoint", "foreign checkpoint"]
# Only Lightning counts the batches, when it has begun.
BEGUN = {"interval"}


def sweep(*options: str) -> tuple[str, ...]:
    return ("train.py", "-m", "search_space=none", *(options or (LR,)))


def with_configs(p: Places) -> tuple[str, ...]:
    return ("train.py", f"--config-dir={p['configs']}")


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
    return Places(folder, folder / "run")


# Broken files that people have, or have in their configs/.
FILES = {
    "empty.csv": "",
    "latin.csv": "optimizer.lr,note\n0.01,für später\n",
    "runs/a/run.json": '{"status": "finished"}',
    "tab.yaml": "# @package _global_\ntrainer:\n\tmax_epochs: 3\n",
    "key.yaml": "optimzer:\n  lr: 0.1\n",
    "number.yaml": "trainer: 5\n",
    "configs/optimizer/tab.yaml": "# As Adam.\nname: Adam\n\tlr: 0.1\n",
    "configs/optimizer/twice.yaml": "name: Adam\nname: SGD\n",
    "configs/optimizer/list.yaml": "- Adam\n",
    "configs/experiment/no_package.yaml": "defaults:\n  - override /model: mlp\n",
    "configs/experiment/no_group.yaml": (
        "# @package _global_\ndefaults:\n  - override /modle: mlp\n"
    ),
    "configs/experiment/no_override.yaml": "# @package _global_\ndefaults:\n  - /model: mlp\n",
    "configs/search_space/no_package.yaml": "optimizer.lr: interval(0.1, 0.2)\n",
}
SPACES = {
    "nested": "optimizer:\n  lr: interval(0.1, 0.2)\n",
    "number": "optimizer.lr: 0.1\n",
    "condition": "optimizer.lr: {space: 'choice(1,2)', wehn: model=cnn}\n",
    "on_nothing": "optimizer.lr: {space: 'choice(1,2)', when: optimizer.nme=Adam}\n",
    "circle": "a: {space: 'choice(1,2)', when: b=1}\nb: {space: 'choice(1,2)', when: a=1}\n",
    "tab": "optimizer.lr:\n\t- 1\n",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """The files that AT_ONCE needs: nothing has to be trained for them."""
    folder = tmp_path_factory.mktemp("files")
    spaces = {f"configs/search_space/{name}.yaml": text for name, text in SPACES.items()}
    header = "# @package hydra.sweeper.search_space\n"
    for name, text in (FILES | {name: header + text for name, text in spaces.items()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "latin-1" if name == "latin.csv" else "utf-8")
    with zipfile.ZipFile(folder / "empty.zip", "w") as file:
        file.writestr("data", "0" * 1000)
    content = (folder / "empty.zip").read_bytes()
    (folder / "cut.ckpt").write_bytes(content[: len(content) // 2])
    return Places(folder, folder)


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for PYTHONPATH that hides packages, which may be installed here."""
    folder = tmp_path_factory.mktemp("without_extras")
    lines = [f"sys.modules[{name!r}] = None\n" for name in ("wandb", "mlflow")]
    (folder / "sitecustomize.py").write_text("import sys\n\n" + "".join(lines))
    return str(folder)


def without_import_times(done: "CompletedProcess[str]") -> "CompletedProcess[str]":
    """What a command started with `-X importtime` printed otherwise."""
    kept = [line for line in done.stderr.splitlines(True) if not line.startswith("import time:")]
    return CompletedProcess(done.args, done.returncode, done.stdout, "".join(kept))


@pytest.fixture(scope="module")
def answers(
    demo: BakedProject,
    places: Places,
    without_extras: str,
    side_by_side: ThreadPoolExecutor,
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What the commands of LATE answered."""
    folder = tmp_path_factory.mktemp("refused")
    commands = {}
    for name, (command, *_) in LATE.items():
        words = command(places)
        placed = any(word.startswith(("hydra.run.dir=", "paths.log_dir=")) for word in words)
        if not placed:
            words += (f"hydra.run.dir={folder / name.replace(' ', '_')}",)
        commands[name] = words

    def run_fresh(name: str) -> Answers:
        return {name: script(demo, *commands[name], check=False)}

    def run_warm(names: list[str]) -> Answers:
        file = folder / f"{names[0]}.json"
        file.write_text(json.dumps([commands[name] for name in names]))
        printed = script(demo, str(WARM_START), str(file), python_path=without_extras).stdout
        return dict(zip(names, (CompletedProcess(**a) for a in json.loads(printed)), strict=True))

    warm = [name for name in LATE if name not in FRESH]
    jobs = [side_by_side.submit(run_warm, warm[start::2]) for start in range(2)]
    jobs += [side_by_side.submit(run_fresh, name) for name in FRESH]
    return {name: answer for job in jobs for name, answer in job.result().items()}


def check_sentence(done: "CompletedProcess[str]", words: list[str], folder: Path) -> None:
    """One sentence names the mistake and the way out, and nothing was trained."""
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert lines[0].endswith((".", "?"))
    assert not re.search(r"[^.]\.\.$|\.{4}$", lines[0])
    assert len(lines[0].replace(str(folder), "")) < LONGEST
    for word in words:
        assert word in lines[0]
    assert "Traceback" not in done.stdout
    assert "epoch 1/" not in done.stdout


@pytest.mark.parametrize("name", AT_ONCE)
def test_mistake_is_told_at_once(
    demo: BakedProject, files: Places, without_extras: str, tmp_path: Path, name: str
) -> None:
    """Who mistypes a name types it again, and again: no folder, no eight seconds of imports."""
    command, words = AT_ONCE[name]
    script_name, *options = command(files)
    if script_name != "runs.py" and not any(o.startswith("paths.log_dir=") for o in options):
        options.append(f"paths.log_dir={tmp_path}/logs")
    before = set(demo.root.iterdir())
    timed = ("-X", "importtime", script_name, *options)
    done = script(demo, *timed, check=False, python_path=without_extras)
    check_sentence(without_import_times(done), words, files.folder)
    assert imported(done) & SLOW_TO_IMPORT == set()
    assert not done.stdout
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert not list(tmp_path.glob("logs/*/runs/*"))
    assert not list(tmp_path.glob("logs/*/sweeps/*"))
    assert {path.name for path in set(demo.root.iterdir()) - before} <= {"__pycache__"}


def test_sweep_script_wants_a_cluster(demo: BakedProject) -> None:
    """Who runs the cluster's script at home should not have to look up what srun is."""
    done = demo.run(
        "/bin/bash", "scripts/sweep.sbatch", "experiment=digits", check=False, PATH="/nowhere"
    )
    check_sentence(done, ["srun", "sbatch", "SLURM"], demo.root)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"metrics": []}', '{"config": {"objective": null}}', '{"git": 3}'],
)
def test_broken_manifest_does_not_hide_the_other_runs(
    demo: BakedProject, sweeps_package: object, tmp_path: Path, content: str
) -> None:
    """One run.json that was edited by hand must not cost the table of all runs."""
    for name, text in (("a", content), ("b", '{"status": "finished"}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    rows = project_module("demo", "runs.table").collect_rows(tmp_path)
    assert {row["run"]: row["status"] for row in rows} == {"a": "unreadable", "b": "finished"}


@pytest.mark.parametrize("name", LATE)
def test_mistake_is_told_in_one_sentence(answers: Answers, places: Places, name: str) -> None:
    """A traceback of sixty lines tells a newcomer nothing, a run that starts anyway even less."""
    done = answers[name]
    check_sentence(done, LATE[name][1], places.folder)
    place = next((word for word in done.args if word.startswith("hydra.run.dir=")), "=")
    folder = Path(place.partition("=")[2])
    assert name in BEGUN or folder == places.run or not folder.exists()


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
