"""Cross-validation: every fold is trained, and the mean is that of all folds."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

from ..conftest import OUTER, SLOW, BakedProject
from ..support.sweeps import sweep, wait_until
from ..support.training_runs import ON_CPU, predict, script

FAULT = """
from pytorch_lightning import Callback

class Fault(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1 and trainer.datamodule.hparams["fold"] == 1:
            raise RuntimeError("the disk is gone")
"""


# A value that refers to another one.
KEEP = (
    "+callbacks.kept={_target_:pytorch_lightning.callbacks.ModelCheckpoint,"
    "dirpath:'${paths.output_dir}/kept'}"
)


@pytest.fixture(scope="module")
def crossed(demo: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of three folds and what the command printed."""
    folder = tmp_path_factory.mktemp("folds") / "run"
    options = ("experiment=diabetes", "data.folds=3", "trainer.max_epochs=3", "logger=none")
    done = script(demo, "train.py", f"hydra.run.dir={folder}", *options, KEEP)
    return folder, done.stdout


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text("utf-8"))


def test_mean_and_deviation_are_those_of_the_folds(crossed: tuple[Path, str]) -> None:
    folder, printed = crossed
    folds = [manifest_of(folder / f"fold_{fold}") for fold in range(3)]
    whole = manifest_of(folder)
    assert [fold["config"]["data"]["fold"] for fold in folds] == [0, 1, 2]
    assert whole["status"] == "finished"
    assert [fold["metrics"] for fold in whole["folds"]] == [fold["metrics"] for fold in folds]
    for part, name in (("best", "val/loss"), ("test", "test/r2"), ("final", "train/loss")):
        values = np.array([fold["metrics"][part][name] for fold in folds])
        assert whole["metrics"][part][name] == pytest.approx(values.mean())
        assert whole["deviations"][part][name] == pytest.approx(values.std())
        if part != "final":
            (row,) = (line for line in printed.splitlines() if name in line and "│" in line)
            assert f"{values.mean():.4f}" in row
            assert f"{values.std():.4f}" in row
    for fold, content in enumerate(folds):
        # Each has its own output folder.
        assert list((folder / f"fold_{fold}" / "kept").glob("*.ckpt"))
        (line,) = (line for line in printed.splitlines() if f"fold {fold}  finished" in line)
        assert f"test/loss {content['metrics']['test']['test/loss']:.4g}" in line


@pytest.mark.slow
def test_every_patient_is_tested_in_one_of_the_runs(
    demo: BakedProject, crossed: tuple[Path, str], tmp_path: Path
) -> None:
    """The mean over folds is that of all patients only if none is left out or counted twice."""
    from sklearn.datasets import load_diabetes

    patients = load_diabetes(scaled=False)
    folds = KFold(3, shuffle=True, random_state=42).split(patients.data)
    test = list(folds)[1][1]
    table = tmp_path / "patients.csv"
    lines = [",".join(map(repr, map(float, row))) for row in patients.data[test]]
    table.write_text("\n".join([",".join(patients.feature_names), *lines]))
    checkpoint = crossed[0] / "fold_1" / "checkpoints" / "best.ckpt"
    rows = predict(demo, checkpoint, table, tmp_path)
    predicted = [float(row["progression"]) for row in rows]
    expected = manifest_of(crossed[0] / "fold_1")["metrics"]["test"]["test/r2"]
    assert r2_score(patients.target[test], predicted) == pytest.approx(expected, abs=1e-4)


def test_table_of_runs_has_one_row_for_all_folds(
    demo: BakedProject, crossed: tuple[Path, str]
) -> None:
    shown = script(demo, "runs.py", str(crossed[0].parent)).stdout
    (row,) = (line for line in shown.splitlines() if "finished" in line)
    whole = manifest_of(crossed[0])
    mean, deviation = (whole[key]["test"]["test/loss"] for key in ("metrics", "deviations"))
    assert f"{mean:.4g} ± {deviation:.4g}" in row
    everything = script(demo, "runs.py", str(crossed[0].parent), "--trials").stdout
    assert everything.count("finished") == 4


@pytest.mark.slow
def test_failed_fold_leaves_the_others_alone_and_is_completed_later(
    demo: BakedProject, tmp_path: Path
) -> None:
    """Four good folds are worth hours."""
    (tmp_path / "fold_fault.py").write_text(FAULT)
    options = (
        "experiment=diabetes",
        "data.folds=3",
        "trainer.max_epochs=3",
        "logger=none",
        "+callbacks.fault._target_=fold_fault.Fault",
    )

    def train(*more: str) -> Any:
        command = ("train.py", f"hydra.run.dir={tmp_path / 'run'}", *options, *more)
        return script(demo, *command, check=False, python_path=str(tmp_path))

    done = train()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Fold 1 of 3 did not finish" in done.stderr
    assert "the disk is gone" in done.stderr
    assert 'RuntimeError("the disk is gone")' in (tmp_path / "run/fold_1/run.log").read_text()
    whole = manifest_of(tmp_path / "run")
    assert whole["status"] == "failed"
    assert [fold["status"] for fold in whole["folds"]] == ["finished", "failed", "finished"]
    assert "test" in whole["folds"][2]["metrics"]
    # A mean of two folds would look like one of three.
    assert "metrics" not in whole
    before = [manifest_of(tmp_path / "run" / f"fold_{fold}") for fold in (0, 2)]

    assert "had other options" in train("optimizer.lr=0.1").stderr
    # The bug is fixed.
    (tmp_path / "fold_fault.py").write_text(FAULT.replace("== 1:\n", "== 9:\n"))
    assert train().returncode == 0
    assert [manifest_of(tmp_path / "run" / f"fold_{fold}") for fold in (0, 2)] == before
    values = [
        manifest_of(tmp_path / "run" / f"fold_{fold}")["metrics"]["test"]["test/loss"]
        for fold in range(3)
    ]
    found = manifest_of(tmp_path / "run")["metrics"]["test"]["test/loss"]
    assert found == pytest.approx(statistics.fmean(values))
    assert "had other options" in train().stderr  # it has finished


def test_fold_killed_after_its_last_epoch_is_completed(
    crossed: tuple[Path, str], demo: BakedProject, tmp_path: Path
) -> None:
    """A kill between the last epoch and the test would leave a fold that can never be completed."""
    whole, cut = crossed[0], tmp_path / "cut"
    shutil.copytree(whole, cut)
    manifest = manifest_of(cut / "fold_1") | {"status": "running"}
    (cut / "fold_1" / "run.json").write_text(json.dumps(manifest), "utf-8")
    (cut / "run.json").unlink()
    options = ("experiment=diabetes", "data.folds=3", "trainer.max_epochs=3", "logger=none")
    done = script(demo, "train.py", f"hydra.run.dir={cut}", *options)
    assert "fold 0  finished earlier" in done.stdout
    assert "fold 1  finished earlier" not in done.stdout
    for key in ("metrics", "deviations"):
        assert manifest_of(cut)[key] == manifest_of(whole)[key]


@pytest.mark.slow
def test_interrupted_folds_are_completed_to_the_same_result(
    demo: BakedProject, tmp_path: Path
) -> None:
    """Ctrl-C before lunch must cost neither the folds so far nor the comparison with others."""

    def command(folder: Path) -> tuple[str, ...]:
        options = ("experiment=diabetes", "data.folds=3", "trainer.max_epochs=40", "logger=none")
        return ("train.py", f"hydra.run.dir={folder}", "callbacks.early_stopping=null", *options)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    script(demo, *command(whole))
    process = subprocess.Popen(
        [sys.executable, *command(cut)],
        cwd=demo.root,
        env={key: value for key, value in os.environ.items() if key not in OUTER + SLOW} | ON_CPU,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )
    wait_until(lambda: list(cut.glob("fold_*/checkpoints/last.ckpt")) or process.poll() is not None)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=300)
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert manifest_of(cut)["status"] == "interrupted"
    script(demo, *command(cut))
    for key in ("metrics", "deviations"):
        assert manifest_of(cut)[key] == manifest_of(whole)[key]


@pytest.mark.slow
def test_sweep_judges_a_point_by_the_mean_over_its_folds(
    demo: BakedProject, tmp_path: Path
) -> None:
    """One lucky split must not win."""
    swept = sweep(
        demo,
        tmp_path / "folds",
        "experiment=diabetes",
        "model=mlp_regressor",
        "data.folds=3",
        "optimizer.lr=0.001,0.01",
        "trainer.max_epochs=2",
        "hydra.sweeper.test=all",
    )
    for row in swept.rows:
        parts = [manifest_of(swept.folder / row["folder"] / f"fold_{fold}") for fold in range(3)]
        assert [part["config"]["data"]["fold"] for part in parts] == [0, 1, 2]
        values = [part["metrics"]["best"]["val/loss"] for part in parts]
        assert float(row["val/loss"]) == pytest.approx(statistics.fmean(values))
        assert float(row["val/loss/std"]) == pytest.approx(statistics.pstdev(values))
        # What a pruner sees in the second fold: the mean of the first fold's best and this epoch.
        trial = swept.study.trials[int(row["number"])]
        assert list(trial.intermediate_values) == [1, 2, 3, 4, 5, 6]
        last = parts[1]["metrics"]["final"]["val/loss"]
        expected = statistics.fmean([values[0], last])
        assert trial.intermediate_values[4] == pytest.approx(expected)
        # Each fold's model was tested on the fold's own test split.
        assert "test/r2" in row
    best = yaml.safe_load((swept.folder / "best.yaml").read_text("utf-8"))
    assert best["data"]["folds"] == 3
    # A hundred trials of five folds would fill the disk.
    assert [path.name for path in swept.folder.glob("**/*.ckpt")] == ["best.ckpt"] * 6


@pytest.mark.slow
def test_number_of_folds_cannot_vary_or_be_lost(demo: BakedProject, tmp_path: Path) -> None:
    command = ("experiment=diabetes", "optimizer.lr=0.001,0.01")
    for options, words in (
        (("data.folds=3,5",), "data.folds cannot vary"),
        (("data.folds=3", "hydra/sweeper=ray"), "Ray Tune does not support data.folds"),
    ):
        swept = sweep(demo, tmp_path / "refused", *command, *options, check=False)
        assert words in swept.printed
        assert not (tmp_path / "refused").exists()


PLAIN = '''
"""Diabetes on the folds of scikit-learn, in plain Lightning."""

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from sklearn.datasets import load_diabetes
from sklearn.model_selection import KFold, train_test_split
from torch.utils.data import DataLoader, TensorDataset


class ScikitLearnFolds(LightningDataModule):
    task = "regression"
    target_name = "progression"
    input_shape = (10,)
    preprocessing = {}

    def __init__(self, number):
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.number = number

    def setup(self, stage=None):
        diabetes = load_diabetes(scaled=False)
        x, y = diabetes.data, diabetes.target
        rest, test = list(KFold(5, shuffle=True, random_state=42).split(x))[self.number]
        train, val = train_test_split(rest, test_size=round(0.15 * len(rest)), random_state=42)
        x = (x - x[train].mean(0)) / x[train].std(0)
        self.target_mean, self.target_std = float(y[train].mean()), float(y[train].std())
        y = (y - self.target_mean) / self.target_std
        x, y = torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)
        parts = {"train": train, "val": val, "test": test}
        self.parts = {part: TensorDataset(x[chosen], y[chosen]) for part, chosen in parts.items()}

    def train_dataloader(self):
        return DataLoader(self.parts["train"], batch_size=32, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.parts["val"], batch_size=32)

    def test_dataloader(self):
        return DataLoader(self.parts["test"], batch_size=32)
'''


@pytest.mark.slow
def test_five_folds_agree_with_a_plain_datamodule_on_the_folds_of_scikit_learn(
    demo: BakedProject, tmp_path: Path
) -> None:
    """The same network, with splits and standardisation written down by hand."""
    options = ("experiment=diabetes", "logger=none")
    script(demo, "train.py", f"hydra.run.dir={tmp_path / 'run'}", "data.folds=5", *options)
    (tmp_path / "plain_folds.py").write_text(PLAIN)
    (tmp_path / "data").mkdir()
    text = "_target_: plain_folds.ScikitLearnFolds\nnumber: 0\n"
    (tmp_path / "data" / "plain_folds.yaml").write_text(text)
    found = []
    for number in range(5):
        folder = tmp_path / f"plain_{number}"
        script(
            demo,
            "train.py",
            f"hydra.searchpath=[file://{tmp_path}]",
            f"hydra.run.dir={folder}",
            *options,
            "data=plain_folds",
            f"data.number={number}",
            python_path=str(tmp_path),
        )
        found.append(manifest_of(folder)["metrics"]["test"]["test/r2"])
    whole = manifest_of(tmp_path / "run")
    assert whole["metrics"]["test"]["test/r2"] == pytest.approx(np.mean(found), abs=0.02)
    assert whole["deviations"]["test"]["test/r2"] == pytest.approx(np.std(found), abs=0.02)
