"""`python train.py -m`: what a sweep promises, with real trials."""

import csv
import re
from pathlib import Path

import pytest
import yaml

from ..conftest import BakedProject
from ..support.sweeps import LR, Swept, processes_of, sweep, sweep_command
from ..support.training_runs import script, train

FAULTS = '''
"""Goes wrong in every fifth trial, in four ways."""

import math
import os
import signal
import time
from pathlib import Path

from pytorch_lightning import Callback


class Faults(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        number = int(Path(trainer.default_root_dir).name)
        if number % 5:
            return
        match number // 5 % 4:
            case 0:
                raise RuntimeError("broken on purpose")
            case 1:
                time.sleep(1000)
            case 2:
                os.kill(os.getpid(), signal.SIGKILL)
            case 3:
                trainer.callback_metrics["val/acc"] = trainer.callback_metrics["val/acc"] * math.nan


class Alike(Callback):
    def on_train_start(self, trainer, pl_module):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        raise RuntimeError(f"the disk is gone at rate {rate}")
'''


@pytest.fixture(scope="module")
def project(demo: BakedProject) -> BakedProject:
    """The project, with a module of callbacks that go wrong."""
    (demo.root / "faults.py").write_text(FAULTS)
    return demo


@pytest.fixture(scope="module")
def first(project: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Swept:
    """A sweep as a new owner starts it, only shorter: the space of the experiment itself."""
    folder = tmp_path_factory.mktemp("sweeps") / "first"
    options = ("trainer.max_epochs=3", "hydra.sweeper.n_trials=6")
    return sweep(project, folder, *options, small=False)


def test_sweep_leaves_the_files_it_promises(first: Swept) -> None:
    """The winner, the table and the page are what a sweep is made for."""
    names = {path.name for path in first.folder.iterdir()}
    assert {"leaderboard.csv", "best.yaml", "report.html", "sweep.log", "journal.log"} <= names
    assert first.states() == {"COMPLETE": 6} or first.states().keys() <= {"COMPLETE", "PRUNED"}
    assert len(first.rows) == 6
    assert float(first.rows[0]["val/acc"]) == max(
        float(row["val/acc"]) for row in first.rows if row["state"] == "finished"
    )
    assert set(first.rows[0]) >= {
        "optimizer.lr",
        "optimizer.weight_decay",
        "model.net.width",
        "model.net.dropout",
    }


def test_each_trial_has_a_folder_of_its_own(first: Swept) -> None:
    """A trial whose config or log cannot be found cannot be understood."""
    for row in first.rows:
        folder = first.folder / row["folder"]
        config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
        assert config["model"]["net"]["width"] == int(row["model.net.width"])
        assert f"{config['optimizer']['lr']}" == row["optimizer.lr"]
        assert "epoch 1/3" in (folder / "run.log").read_text("utf-8")
        # Only the best stays: a hundred last checkpoints fill a disk.
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]


def test_console_has_one_line_a_trial(first: Swept) -> None:
    """In a log file a live table would be thousands of lines."""
    lines = re.findall(r"trial \d+  (?:finished|pruned)  val/acc [\d.]+", first.printed)
    assert len(lines) == 6
    assert "\x1b" not in first.printed
    assert "Epoch" not in first.printed


def test_winner_trained_again_gives_the_same_value(
    first: Swept, project: BakedProject, tmp_path: Path
) -> None:
    """A winner that cannot be repeated was luck; one worker more or less must not change it."""
    run = train(project, tmp_path / "run", f"experiment={first.folder / 'best.yaml'}")
    assert run.metrics["best"]["val/acc"] == float(first.rows[0]["val/acc"])


def test_only_the_winner_sees_the_test_set_and_once(first: Swept, project: BakedProject) -> None:
    """A test set that helped to choose is a validation set."""
    tested = [path.parent.name for path in first.folder.glob("trials/*/test.log")]
    assert tested == [Path(first.rows[0]["folder"]).name]
    assert not any("test/" in column for column in first.rows[0])
    again = sweep(
        project, first.folder, "trainer.max_epochs=3", "hydra.sweeper.n_trials=6", small=False
    )
    assert "6 of 6 trials have ended" in again.printed
    assert len(again.study.trials) == 6
    assert re.findall(r"test/acc: [\d.]+", again.printed) == re.findall(
        r"test/acc: [\d.]+", first.printed
    )


def test_same_command_goes_on_to_the_total(project: BakedProject, tmp_path: Path) -> None:
    """Three trials and then five are five, not eight."""
    sweep(project, tmp_path / "study", LR, "hydra.sweeper.n_trials=3")
    swept = sweep(project, tmp_path / "study", LR, "hydra.sweeper.n_trials=5")
    assert swept.states() == {"COMPLETE": 5}
    rates = {trial.params["optimizer.lr"] for trial in swept.study.trials}
    assert len(rates) == 5, "a continued sampler must not propose its first points again"


def test_sweep_repeats_with_a_seed_and_one_worker(project: BakedProject, tmp_path: Path) -> None:
    """Who reports a search must be able to show it again."""
    options = (LR, "hydra.sweeper.n_trials=3", "hydra.sweeper.workers=1")
    one, two = (sweep(project, tmp_path / name, *options) for name in ("one", "two"))
    assert [t.params for t in one.study.trials] == [t.params for t in two.study.trials]
    assert [t.values for t in one.study.trials] == [t.values for t in two.study.trials]


def test_grid_has_every_point_once(project: BakedProject, tmp_path: Path) -> None:
    """A grid that drops its last value, or tries one twice, is no grid."""
    swept = sweep(
        project,
        tmp_path / "grid",
        "model=mlp,cnn",
        "model.net.width=range(8,17,8)",
        "seed=1,2",
        "hydra.sweeper.sampler=grid",
    )
    points = [
        (t.params["model"], t.params["model.net.width"], int(t.params["seed"]))
        for t in swept.study.trials
    ]
    assert sorted(points) == [
        (model, width, seed) for model in ("cnn", "mlp") for width in (8, 16) for seed in (1, 2)
    ]
    row = swept.rows[0]
    config = yaml.safe_load((swept.folder / row["folder"] / "config.yaml").read_text("utf-8"))
    assert (config["model"]["net"]["name"], config["seed"]) == (row["model"], int(row["seed"]))


def test_conditions_hold(project: BakedProject, tmp_path: Path) -> None:
    """A parameter that means nothing for a choice would only confuse the sampler."""
    space = project.root / "configs" / "search_space" / "conditional.yaml"
    space.write_text(
        "# @package hydra.sweeper.search_space\n"
        "optimizer.name: choice(SGD, AdamW)\n"
        "+optimizer.momentum: {space: 'interval(0.5, 0.9)', when: optimizer.name=SGD}\n"
    )
    swept = sweep(
        project,
        tmp_path / "conditional",
        "search_space=conditional",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.sampler=random",
    )
    assert swept.states() == {"COMPLETE": 6}
    names = {t.params["optimizer.name"] for t in swept.study.trials}
    assert names == {"SGD", "AdamW"}
    for trial in swept.study.trials:
        assert ("+optimizer.momentum" in trial.params) == (trial.params["optimizer.name"] == "SGD")


ERRORS = (
    "RuntimeError: broken on purpose",
    "took longer than trial_timeout=8 seconds",
    "killed by SIGKILL (by hand, or out of memory)",
    "val/acc was never a number",
)


@pytest.mark.parametrize("total", [20, pytest.param(100, marks=pytest.mark.slow)])
def test_faults_cost_one_trial_each(total: int, project: BakedProject, tmp_path: Path) -> None:
    """One trial that crashes, hangs, returns NaN or is killed must not end the others."""
    swept = sweep(
        project,
        tmp_path / "faults",
        LR,
        "+callbacks.faults._target_=faults.Faults",
        f"hydra.sweeper.n_trials={total}",
        "hydra.sweeper.trial_timeout=8",
        "hydra.sweeper.max_retries=0",
        "hydra.sweeper.pruner=none",
    )
    assert swept.states() == {"COMPLETE": total * 4 // 5, "FAIL": total // 5}
    errors = {int(row["number"]): row["error"] for row in swept.rows if row["state"] == "failed"}
    assert errors == {number: ERRORS[number // 5 % 4] for number in range(0, total, 5)}
    assert not processes_of(swept.folder)
    assert "Traceback" in (swept.folder / "trials/0000/run.log").read_text("utf-8")
    assert "Traceback" not in swept.printed
    report = (swept.folder / "report.html").read_text("utf-8")
    assert "broken on purpose" in report


def test_crash_is_tried_again_from_its_checkpoint(project: BakedProject, tmp_path: Path) -> None:
    """A machine that dies once must not cost a long trial its epochs."""
    swept = sweep(
        project,
        tmp_path / "again",
        LR,
        "trainer.max_epochs=3",
        "+callbacks.faults._target_=faults.Faults",
        "hydra.sweeper.n_trials=1",
    )
    assert swept.states() == {"COMPLETE": 1}
    broken, tried = swept.study.trials
    assert tried.params == broken.params
    assert tried.user_attrs["earlier"] == [0]


def test_same_error_in_every_trial_ends_the_sweep(project: BakedProject, tmp_path: Path) -> None:
    """Two hundred trials that all fail alike are a wasted night."""
    swept = sweep(
        project,
        tmp_path / "alike",
        LR,
        "+callbacks.faults._target_=faults.Alike",
        "hydra.sweeper.n_trials=50",
        "hydra.sweeper.max_retries=0",
        check=False,
    )
    assert len(swept.study.trials) <= 5
    assert "error: The last" in swept.printed
    assert "the disk is gone" in swept.printed
    assert "Traceback" not in swept.printed


def test_several_objectives_give_a_front(project: BakedProject, tmp_path: Path) -> None:
    """Accuracy at any size is not what a phone needs."""
    swept = sweep(
        project,
        tmp_path / "front",
        "model.net.width=8,64,256",
        LR,
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.more_objectives={parameters:min}",
        "hydra.sweeper.sampler=nsga2",
    )
    assert swept.states() == {"COMPLETE": 6}
    front = {t.number for t in swept.study.best_trials}
    assert int(swept.rows[0]["number"]) in front
    sizes = {int(t.params["model.net.width"]): t.values[1] for t in swept.study.trials}
    assert sizes[8] < sizes[256] if {8, 256} <= sizes.keys() else sizes


def test_limits_decide_who_may_win(project: BakedProject, tmp_path: Path) -> None:
    """The best of the models that fit is wanted, not the best of all."""
    swept = sweep(
        project,
        tmp_path / "limits",
        "model.net.width=8,256",
        "hydra.sweeper.limits={parameters:10000}",
    )
    best = yaml.safe_load((swept.folder / "best.yaml").read_text("utf-8"))
    assert best["model"]["net"]["width"] == 8


def test_point_with_several_seeds_is_judged_by_the_mean(
    project: BakedProject, tmp_path: Path
) -> None:
    """One lucky seed must not win."""
    swept = sweep(project, tmp_path / "seeds", "optimizer.lr=0.001,0.01", "hydra.sweeper.seeds=2")
    for row in swept.rows:
        parts = [
            yaml.safe_load((swept.folder / row["folder"] / f"seed_{i}/run.json").read_text("utf-8"))
            for i in (0, 1)
        ]
        values = [part["metrics"]["best"]["val/acc"] for part in parts]
        assert [part["seed"] for part in parts] == [42, 43]
        assert float(row["val/acc"]) == pytest.approx(sum(values) / 2)
        assert float(row["val/acc/std"]) == pytest.approx(abs(values[0] - values[1]) / 2)


def test_points_of_a_table_come_first(project: BakedProject, tmp_path: Path) -> None:
    """What is known to be good need not be found again."""
    table = tmp_path / "known.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["optimizer.lr", "note"], [0.0123, "good"], [0.0045, "better"]])
    swept = sweep(
        project,
        tmp_path / "enqueued",
        LR,
        f"hydra.sweeper.enqueue={table}",
        "hydra.sweeper.n_trials=3",
    )
    rates = [t.params["optimizer.lr"] for t in swept.study.trials]
    assert rates[:2] == [0.0123, 0.0045]
    assert len(rates) == 3


def test_gpus_are_dealt_out(project: BakedProject, tmp_path: Path) -> None:
    """Two trials on one card run out of memory, and an idle card is a wasted one."""
    seen = project.root / "gpus.py"
    seen.write_text(
        "import os\n"
        "from pathlib import Path\n"
        "from pytorch_lightning import Callback\n"
        "class Seen(Callback):\n"
        "    def on_fit_start(self, trainer, pl_module):\n"
        "        place = Path(trainer.default_root_dir) / 'gpus'\n"
        "        place.write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    options = (LR, "trainer=cpu", "+callbacks.seen._target_=gpus.Seen", "hydra.sweeper.n_trials=4")
    given = {}
    for share in ("1", "2", "0.5"):
        swept = sweep(
            project,
            tmp_path / f"share_{share}",
            *options,
            "hydra.sweeper.gpus=[3,5]",
            f"hydra.sweeper.gpus_per_trial={share}",
        )
        given[share] = {path.read_text() for path in swept.folder.glob("trials/*/gpus")}
        workers = {row["worker"] for row in swept.rows}
        assert len(workers) == {"1": 2, "2": 1, "0.5": 4}[share]
    assert given == {"1": {"3", "5"}, "2": {"3,5"}, "0.5": {"3", "5"}}


def test_trial_on_two_processes_is_one_trial(project: BakedProject, tmp_path: Path) -> None:
    """Lightning starts its second process by the command line, which here would be a sweep."""
    swept = sweep(
        project,
        tmp_path / "ddp",
        LR,
        "trainer=ddp_cpu",
        "trainer.max_epochs=2",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.workers=1",
    )
    assert swept.states() == {"COMPLETE": 2}
    for trial in swept.study.trials:
        assert sorted(trial.intermediate_values) == [1, 2]
        log = (swept.folder / f"trials/{trial.number:04d}/run.log").read_text("utf-8")
        assert "distributed_backend=gloo" in log


def test_pruned_trials_close_properly(project: BakedProject, tmp_path: Path) -> None:
    """A trial that is given up must leave a whole run, not half a file."""
    swept = sweep(
        project,
        tmp_path / "pruned",
        LR,
        "trainer.max_epochs=6",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.workers=1",
        "hydra/sweeper/pruner=threshold",
        "hydra.sweeper.pruner.lower=0.99",
        check=False,
    )
    assert "error: There is no winner: 2 trials were pruned" in swept.printed
    assert swept.states() == {"PRUNED": 2}
    for trial in swept.study.trials:
        folder = swept.folder / f"trials/{trial.number:04d}"
        manifest = yaml.safe_load((folder / "run.json").read_text("utf-8"))
        assert manifest["status"] == "finished"
        assert len(trial.intermediate_values) < 6
    assert {row["state"] for row in swept.rows} == {"pruned"}


MISTAKES = {
    "hydra.sweeper.ntrials=3": "did you mean 'hydra.sweeper.n_trials'?",
    "hydra.sweeper.n_trials=0": "n_trials must be an integer of at least 1 or null, not 0.",
    "hydra.sweeper.sampler=tpee": "There is no sampler 'tpee'; did you mean 'tpe'?",
    "hydra/sweeper/pruner=medain": "did you mean 'median'?",
    "hydra.sweeper.enqueue=nowhere.csv": "there is no nowhere.csv.",
    "hydra.sweeper.enqueue=[{optimizer.lr:7}]": "is outside 0.0001 to 0.1.",
    "hydra.sweeper.limits={val/acc:x}": "limits.val/acc must be a number, not 'x'.",
    "hydra.sweeper.more_objectives={val/loss:low}": "must be min or max, not 'low'.",
    "hydra.sweeper.storage=postgresql://me:hush@nowhere/x": "postgresql://me:***@nowhere/x",
    "hydra.sweeper.sampler=grid": "A grid needs discrete values",
    "optimizer.lr=interval(1,0)": "the start of an interval must not exceed its end.",
    "optimizer.lr=choice(1,": "cannot be read",
    "modle.net.width=2,3": "did you mean 'model.net.width'?",
    "model=mlp,cnnn": "There is no model=cnnn; did you mean 'cnn'?",
    "search_space=digit": "did you mean 'digits'?",
}

TELL_OF_TORCH = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print("torch:", "torch" in sys.modules)
"""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_is_told_in_one_sentence(
    mistake: str, project: BakedProject, tmp_path: Path
) -> None:
    """Who mistypes an option wants to know before the night begins."""
    given = [] if mistake.startswith("optimizer.lr") else [LR]
    command = sweep_command(tmp_path / "none", *given, mistake)
    done = script(project, "-c", TELL_OF_TORCH, *command, check=False, is_warm=False)
    assert done.returncode == 1
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("error: ")
    assert MISTAKES[mistake] in sentence
    assert "hush" not in sentence
    # Only the server of the trials, which is ended, has begun to import it.
    assert done.stdout == "torch: False\n"
    assert not (tmp_path / "none").exists()


def test_unknown_objective_is_told_before_the_first_trial(
    project: BakedProject, tmp_path: Path
) -> None:
    """A sweep for a metric that nobody logs finds nothing."""
    swept = sweep(project, tmp_path / "none", LR, "objective.metric=val/accu", check=False)
    assert "did you mean 'val/acc'?" in swept.printed
    assert not swept.folder.exists()


def test_several_values_without_m_are_explained(project: BakedProject) -> None:
    """The most frequent slip of all."""
    done = script(project, "train.py", "model=mlp,cnn", check=False)
    assert done.stderr.strip() == "error: model=mlp,cnn has several values: add -m to run them all."
