"""Sweeps under Ray Tune: its algorithms, our trials, and the files of every other sweep."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial

from ..conftest import BakedProject
from ..support.in_process import Project
from ..support.modules import project_module
from ..support.sweeps import LR, Swept, processes_of, start_sweep, sweep, wait_until
from ..support.training_runs import evaluate

TUNE = "hydra/sweeper=ray"
# Samplers whose packages are extras.
NEEDS = {"bohb": "hpbandster", "cmaes": "cmaes", "hyperopt": "hyperopt"}
CALLBACKS = '''
"""A trial whose process dies in its second epoch, and once more when it is tried again."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback


class Deadly(Callback):
    def on_train_epoch_start(self, trainer, pl_module):
        if Path(trainer.default_root_dir).name == "0001" and trainer.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)
'''


def trials_of(swept: Swept) -> dict[int, FrozenTrial]:
    """The trials so far, by the numbers that Ray Tune gave them."""
    if not (swept.folder / "journal.log").exists():
        return {}
    return {trial.user_attrs["tune"]: trial for trial in swept.counting}


def reports_of(swept: Swept) -> int:
    """How many epochs the trials have reported."""
    return sum(len(trial.intermediate_values) for trial in trials_of(swept).values())


def ended(swept: Swept) -> dict[int, FrozenTrial]:
    """The trials that have ended."""
    return {n: trial for n, trial in trials_of(swept).items() if trial.state.is_finished()}


@pytest.mark.slow
def test_killed_sweep_goes_on(demo: BakedProject, tmp_path: Path) -> None:
    """Hours of trials must not hang on one process, nor on a trial that crashes."""
    (demo.root / "deadly_trials.py").write_text(CALLBACKS)
    swept = Swept(tmp_path / "killed")
    options = (
        TUNE,
        LR,
        "hydra/sweeper/sampler=random",
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.n_trials=7",
        "trainer.max_epochs=2",
        "+callbacks.deadly._target_=deadly_trials.Deadly",
    )
    process = start_sweep(demo, swept.folder, *options)
    wait_until(lambda: process.poll() is not None or len(ended(swept)) >= 3, 300)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = ended(swept)
    wait_until(lambda: not processes_of(swept.folder), 30)
    done = sweep(demo, swept.folder, *options)
    assert f"continuing killed: {len(before)} of 7 trials have ended" in done.printed
    after = ended(done)
    assert {number: after[number] for number in before} == before, "a trial that ended ran again"
    assert sorted(after) == list(range(7))
    states = {int(row["number"]): row["state"] for row in done.rows}
    assert states == {n: "failed" if n == 1 else "finished" for n in range(7)}
    assert done.rows[-1]["error"] == "killed by SIGKILL (by hand, or out of memory)"
    # Tried once more, from its checkpoint; the log of the first try is there to be read.
    tries = sorted((done.folder / "trials").glob("0001*"))
    assert [path.name for path in tries] == ["0001", "0001.crash-1"]
    config = json.loads((tries[0] / "run.json").read_text("utf-8"))["config"]
    assert config["ckpt_path"] == str(tries[1] / "checkpoints" / "last.ckpt")
    assert list(done.folder.glob("**/last.ckpt")) == []
    assert list(done.folder.glob("tune/*/checkpoint_*")) == []


@pytest.mark.slow
def test_population_hands_on_its_best(demo: BakedProject, tmp_path: Path) -> None:
    """A schedule that nobody can see, or a model that does not score as told, is worth nothing."""
    swept = sweep(
        demo,
        tmp_path / "population",
        TUNE,
        "hydra/sweeper/pruner=pbt",
        "hydra.sweeper.n_trials=4",
        "trainer.max_epochs=12",
        # Five comparisons, and the worst of four is not the best, whatever the start.
        "model.net.width=8,64",
        small=False,
    )
    # What each trial reported in each epoch.
    epochs = {
        number: [facts for name, facts in trial.user_attrs.items() if name.startswith("epoch ")]
        for number, trial in trials_of(swept).items()
    }
    copies = [facts for told in epochs.values() for facts in told if facts["copied"] is not None]
    assert copies
    for facts in copies:
        # What shapes the weights came along with them.
        width = facts["params"]["model.net.width"]
        assert width in {row["params"]["model.net.width"] for row in epochs[facts["copied"]]}
    assert {row["state"] for row in swept.rows} == {"finished"}
    assert {row["epochs"] for row in swept.rows} == {"12"}
    report = (swept.folder / "report.html").read_text("utf-8")
    assert "Schedule of optimizer.lr" in report
    assert "Schedule of model.net.width" not in report
    best = swept.rows[0]
    checkpoint = swept.folder / best["folder"] / "checkpoints" / "best.ckpt"
    assert f"the model of the winner: {checkpoint}" in swept.printed
    measured = evaluate(demo, checkpoint, tmp_path / "again", "split=val")
    assert measured["val/acc"] == pytest.approx(float(best["val/acc"]), abs=1e-6)


@pytest.mark.slow
def test_interrupt_saves_and_the_same_command_goes_on(demo: BakedProject, tmp_path: Path) -> None:
    """Ctrl-C is how most sweeps end."""
    swept = Swept(tmp_path / "interrupted")
    options = (TUNE, LR, "hydra.sweeper.n_trials=5", "trainer.max_epochs=3")
    process = start_sweep(demo, swept.folder, *options)
    wait_until(lambda: process.poll() is not None or reports_of(swept) >= 3, 300)
    os.killpg(process.pid, signal.SIGINT)
    printed = process.communicate(timeout=120)[0]
    assert process.returncode == 130, printed
    assert "the same command continues" in printed
    assert "Traceback" not in printed
    assert not processes_of(swept.folder)
    done = sweep(demo, swept.folder, *options)
    assert len(done.rows) == 5
    assert {row["state"] for row in done.rows} <= {"finished", "pruned"}
    # Nothing is left to do, and nothing is done.
    again = sweep(demo, swept.folder, *options)
    assert trials_of(again) == trials_of(done)


@pytest.mark.slow
def test_all_engines_leave_the_same_and_find_as_good_a_model(
    demo: BakedProject, tmp_path: Path
) -> None:
    """One word chooses the engine: whatever reads the results of one must read those of all."""
    options = ("hydra.sweeper.n_trials=24", "trainer.max_epochs=8")
    engines = {"optuna": (), "ax": ("hydra/sweeper=ax",), "ray": (TUNE,)}
    swept = {
        name: sweep(demo, tmp_path / name, *engine, *options, small=False)
        for name, engine in engines.items()
    }
    names = {key: {path.name for path in each.folder.iterdir()} for key, each in swept.items()}
    assert names["optuna"] == names["ax"] - {"ax.json"} == names["ray"] - {"tune"}
    assert {"leaderboard.csv", "best.yaml", "report.html", "trials"} <= names["ray"]
    assert len({tuple(each.rows[0]) for each in swept.values()}) == 1
    best = [float(each.rows[0]["val/acc"]) for each in swept.values()]
    assert min(best) >= 0.98
    assert max(best) - min(best) <= 0.01
    assert [len(each.rows) for each in swept.values()] == [24, 24, 24]


@pytest.mark.slow
@pytest.mark.parametrize(
    "algorithms",
    [
        ("pruner=hyperband", "sampler=random"),
        ("pruner=median", "sampler=cmaes"),
        ("pruner=asha", "sampler=gp"),
        ("pruner=pb2",),
        ("pruner=bohb", "sampler=bohb"),
        ("pruner=none", "sampler=hyperopt"),
    ],
    ids=" ".join,
)
def test_every_algorithm_runs(
    algorithms: tuple[str, ...], demo: BakedProject, tmp_path: Path
) -> None:
    """What the config names must work."""
    for name, package in NEEDS.items():
        if f"sampler={name}" in algorithms:
            pytest.importorskip(package)
    chosen = [f"hydra/sweeper/{name}" for name in algorithms]
    options = ("hydra.sweeper.n_trials=6", "trainer.max_epochs=6")
    swept = sweep(demo, tmp_path / "study", TUNE, *chosen, *options, small=False)
    assert len(swept.rows) == 6
    assert float(swept.rows[0]["val/acc"]) >= 0.9
    assert {row["state"] for row in swept.rows} <= {"finished", "pruned"}


@pytest.mark.slow
def test_grid_has_every_point_once(demo: BakedProject, tmp_path: Path) -> None:
    """A grid that leaves a point out, or has it twice, is no grid."""
    options = ("hydra/sweeper/sampler=grid", "model.net.width=8,16", "seed=range(0,3)")
    swept = sweep(demo, tmp_path / "grid", TUNE, *options)
    points = [(row["model.net.width"], row["seed"]) for row in swept.rows]
    assert sorted(points) == sorted((w, s) for w in ("8", "16") for s in ("0", "1", "2"))
    assert {row["state"] for row in swept.rows} == {"finished"}


def test_every_kind_of_parameter_keeps_its_meaning(sweeps_package: Any) -> None:
    """An engine that rounds, shifts or exceeds a range trains what nobody asked for."""
    space, tune_space = sweeps_package("space"), sweeps_package("ray_tune.space")
    parameters = (
        space.Parameter("lr", low=1e-4, high=1e-1, log=True),
        space.Parameter("dropout", low=0.0, high=0.5),
        space.Parameter("width", low=8, high=64, is_integer=True, log=True),
        space.Parameter("depth", low=1, high=3, step=1.0, is_integer=True),
        space.Parameter("batch", low=20, high=100, step=32, is_integer=True),
        space.Parameter("share", low=0.05, high=0.45, step=0.1),
        space.Parameter("kind", choices=("a", "b")),
        space.Parameter("only_b", low=0.0, high=1.0, when=(("kind", ("b",)),)),
    )
    for exponents in (False, True):
        tuned = tune_space.TuneSpace(space.Space(parameters), exponents=exponents)
        seen: dict[str, set[Any]] = {}
        for _ in range(200):
            config = {key: drawn.sample() for key, drawn in tuned.distributions().items()}
            params = tuned.params_of(config)
            assert ("only_b" in params) == (params["kind"] == "b")
            # There and back again.
            assert tuned.params_of(config | tuned.config_of(params)) == pytest.approx(params)
            for key, value in params.items():
                seen.setdefault(key, set()).add(value)
        assert seen["depth"] == {1, 2, 3}
        assert seen["batch"] == {20, 52, 84}
        assert seen["share"] == {0.05, 0.15, 0.25, 0.35, 0.45}
        assert all(isinstance(width, int) and 8 <= width <= 64 for width in seen["width"])
        assert sum(lr < 3e-3 for lr in seen["lr"]) > 60, "a factor is no distance"
        # What an algorithm has pushed out of the space comes back to its edge.
        far = {"lr": 9.0, "dropout": -1.0, "width": 900, "depth": 7, "batch": 99, "share": 99}
        params = tuned.params_of(tuned.inside(config | far))
        edge = {"lr": 0.1, "dropout": 0.0, "width": 64, "depth": 3, "batch": 84, "share": 0.45}
        assert {key: params[key] for key in edge} == pytest.approx(edge)


def test_copied_weights_train_on_with_new_options(
    sweeps_package: Any, demo: BakedProject, tmp_path: Path
) -> None:
    """Lightning brings the old learning rate back last, and nothing would have been explored."""
    fresh = sweeps_package("ray_tune.fresh_options").FreshOptions.__module__ + ".FreshOptions"
    project = Project(demo.root, tmp_path)
    old = ("optimizer.lr=0.02", "optimizer.weight_decay=0.5", "scheduler=cosine")
    new = ("optimizer.lr=0.001", "optimizer.weight_decay=0.1", "scheduler=cosine")
    # Over as soon as the first epoch has any accuracy.
    half = project.train(*old, "+callbacks.early_stopping.stopping_threshold=0.0")
    copied = project.train(
        *new,
        f"ckpt_path={half.folder / 'checkpoints' / 'last.ckpt'}",
        f"+callbacks.fresh._target_={fresh}",
    )
    alone = project.train(*new)
    assert len(half.manifest["metrics"]["final"]) and half.saved("last")["epoch"] == 0
    for name in ("lr", "initial_lr", "weight_decay"):
        values = [
            run.saved("last")["optimizer_states"][0]["param_groups"][0][name]
            for run in (copied, alone)
        ]
        assert values[0] == pytest.approx(values[1], rel=1e-6), name
    rates = [run.saved("last")["lr_schedulers"][0]["base_lrs"] for run in (copied, alone)]
    assert rates[0] == pytest.approx(rates[1])


MISTAKES = {
    (TUNE, "hydra/sweeper/pruner=percentile"): "Ray Tune has no pruner 'percentile'",
    (TUNE, "hydra/sweeper/sampler=ax"): "Ray Tune has no sampler 'ax'",
    (TUNE, "hydra/sweeper/sampler=bohb", "hydra/sweeper/pruner=none"): "pruner=bohb.",
    (TUNE, "hydra.sweeper.seeds=2"): "Ray Tune does not support hydra.sweeper.seeds",
    (
        TUNE,
        "hydra/sweeper/pruner=asha",
        "hydra.sweeper.pruner.min_resource=0",
    ): "min_resource is an integer from 1",
    (TUNE, "hydra/sweeper/pruner=pbt", "hydra.sweeper.pruner.mutate=[model.net.width]"): (
        "the search space has none of them"
    ),
    (TUNE, "hydra/sweeper/pruner=pbt", "+hydra.sweeper.pruner.quantil=1"): "has no 'quantil'",
    ("hydra/sweeper/pruner=pbt",): "hydra/sweeper/pruner=pbt needs hydra/sweeper=ray",
    ("hydra/sweeper/sampler=hyperopt",): "hydra/sweeper/sampler=hyperopt needs hydra/sweeper=ray",
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


@pytest.mark.slow
def test_sweep_of_other_algorithms_needs_another_name(
    sweeps_package: Any, demo: BakedProject, tmp_path: Path
) -> None:
    """Ray Tune would go on with those that it began with, and say nothing."""
    options = (TUNE, LR, "hydra.sweeper.n_trials=2")
    sweep(demo, tmp_path / "study", *options)
    for other in ("hydra/sweeper/pruner=median", "hydra.sweeper.n_trials=3"):
        swept = sweep(demo, tmp_path / "study", *options, other, check=False)
        assert "give another hydra.sweeper.study_name" in swept.printed
        assert "Traceback" not in swept.printed


@pytest.mark.parametrize(
    ("module", "found", "words"), [("ray", "2.60.0", "needs Ray Tune"), (None, "2.9.3", "2.60 or")]
)
def test_missing_or_old_package_is_named_with_the_command(
    module: str | None,
    found: str,
    words: str,
    sweeps_package: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray is an extra, and what many machines have of it is old."""
    engine = sweeps_package("ray_tune")
    monkeypatch.setattr(engine, "version", lambda name: found)
    monkeypatch.setattr(engine, "find_spec", lambda name: None if name == module else object())
    user_error = project_module("demo", "errors").UserError
    with pytest.raises(user_error, match=words) as told:
        engine.ENGINE.check(None, None, None)
    assert "uv sync --extra ray" in str(told.value)
