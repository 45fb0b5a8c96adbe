"""What is pruned and what is not: a table of averages must not miss its weakest rows."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ..conftest import Bake, BakedProject
from ..support.modules import project_module
from ..support.sweeps import sweep

GRID = ("search_space=none", "optimizer.lr=0.001,0.01,0.1", "model.net.width=8,16,32,64")
SEARCH = ("search_space=none", "optimizer.lr=tag(log,interval(1e-4,1e-1))")


@pytest.fixture(scope="module")
def project(bake: Bake) -> Iterator[BakedProject]:
    baked = bake(project_name="Pruned", package_name="package_of_pruning_tests")
    sys.path.insert(0, str(baked.root))
    yield baked
    sys.path.remove(str(baked.root))


def module(name: str) -> Any:
    return project_module("package_of_pruning_tests", name)


AUTO = {"name": "auto"}


@pytest.fixture
def plan(project: BakedProject, tmp_path: Path) -> Callable[..., Any]:
    """Makes the plan of a command, as `train.py -m` does."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    module("runs.directory").register_resolvers()

    def make(*options: str) -> Any:
        given = [*options, f"hydra.sweep.dir={tmp_path}"]
        with initialize_config_dir(str(project.root / "configs"), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            master = hydra.compose_config("train", given, run_mode=RunMode.MULTIRUN)
            words = [word for word in given if not word.startswith("hydra")]
            return module("sweeps.command").make_plan(hydra.config_loader, master, words)

    return make


def pruned(plan: Any) -> int:
    """How many trials are pruned if each is worse than all before, in every epoch."""
    records = module("sweeps.types")
    search, count = joined(plan), 0
    for number in range(plan.n_trials):
        trial = search.ask("0")
        assert trial.number == number
        state = records.State.FINISHED
        for epoch in range(1, 11):
            answer = search.report(number, epoch, epoch / 100 - number)
            if answer is records.Verdict.PRUNE:
                state = records.State.PRUNED
                count += 1
                break
        search.tell(number, records.TrialOutcome(state, {"val/acc": 0.1 - number}))
    search.close()
    return count


def joined(plan: Any) -> Any:
    """The search of a plan."""
    plan.folder.mkdir(exist_ok=True)
    identity = module("sweeps.identity").identify(plan, {})
    engine, classes = module("sweeps.optuna_search"), module("sweeps.promoting_search")
    return engine.open_search(replace(plan, identity=identity), classes.search_class)


def test_grid_is_complete_unless_a_pruner_is_named(plan: Any) -> None:
    """An average over the rows of a grid is biased when the worst are missing."""
    assert pruned(plan(*GRID)) == 0
    # Three of the twelve are never judged (n_startup_trials), and all others are the worst so far.
    assert pruned(plan(*GRID, "hydra/sweeper/pruner=percentile", "name=named")) == 9
    search = (*SEARCH, "hydra.sweeper.n_trials=12")
    assert pruned(plan(*search, "hydra/sweeper/pruner=percentile")) == 9


FINITE = {
    "grid": GRID,
    "seeds": ("search_space=none", "seed=0,1,2"),
    "grid of a larger space": (*GRID, "hydra.sweeper.n_trials=5", "hydra.sweeper.sampler=grid"),
    "every point of a larger space": (
        *GRID,
        "hydra.sweeper.n_trials=5",
        "hydra.sweeper.sampler=bruteforce",
    ),
    "list of points": (
        *SEARCH,
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.enqueue=[{optimizer.lr:0.01},{optimizer.lr:0.02}]",
    ),
}


@pytest.mark.parametrize("name", FINITE)
def test_all_results_are_wanted(plan: Any, name: str) -> None:
    """Where every result counts, none may be cut short without a word."""
    assert plan(*FINITE[name]).settings.pruner == {"name": "none"}
    named = plan(*FINITE[name], "hydra/sweeper/pruner=median").settings.pruner
    assert named["name"] == "median"


def test_several_objectives_are_not_pruned(plan: Any) -> None:
    """A trial that is behind in one objective may lead in the other."""
    several = plan(*SEARCH, "hydra.sweeper.more_objectives={parameters:min}")
    assert several.settings.pruner == {"name": "none"}


def test_search_is_pruned_by_the_pruner_of_its_engine(plan: Any) -> None:
    """Half of the epochs of a search are spent for nothing without."""
    promote = {"name": "promote", "min_epochs": 3, "factor": 4, "n_startup_trials": None}
    chosen = plan(*SEARCH)
    assert chosen.settings.pruner == promote
    assert chosen.why_pruner == "which pauses trials after 3, 12 of 20 epochs"
    part = (*SEARCH, "hydra.sweeper.enqueue=[{optimizer.lr:0.01}]")
    assert plan(*part).settings.pruner["name"] == "promote"
    load = module("sweeps.engines").load_engine
    assert load("workbench.sweeps.ax").automatic_pruner("ax") == "ax"
    assert load("workbench.sweeps.ray_tune").automatic_pruner("tpe") == "asha"
    assert load("workbench.sweeps.ray_tune").automatic_pruner("bohb") == "bohb"
    grid = plan(*GRID)
    for engine in ("ax", "ray_tune"):
        settings = replace(grid.settings, engine=f"workbench.sweeps.{engine}", pruner=AUTO)
        chosen, _ = module("sweeps.command")._with_pruner(settings, grid.space, grid.points)
        assert chosen.pruner == {"name": "none"}


UNKNOWN = "as the number of epochs of a trial is not known"
UNSUITED = {
    "callbacks.last_checkpoint=null": "as trials cannot resume without callbacks.last_checkpoint",
    "callbacks=none": "as trials cannot resume without callbacks.last_checkpoint",
    "hydra.sweeper.storage=sqlite:///{folder}/study.db": (
        "as machines that share a database may not share checkpoints"
    ),
    "hydra/sweeper/sampler=nsga2": "as nsga2 learns from finished trials only",
    "hydra.sweeper.terminator=true": "as the terminator judges finished trials only",
    "trainer.max_epochs=-1": UNKNOWN,
    "trainer.val_check_interval=0.5": UNKNOWN,
    "trainer.max_epochs=10,20": UNKNOWN,
    "trainer.val_check_interval=0.5 data.folds=3": UNKNOWN,
    "trainer.max_epochs=5": "as trials have fewer than 6 epochs",
    "hydra.sweeper.n_trials=3": "as there are fewer than 4 trials",
}


@pytest.mark.parametrize("options", UNSUITED)
def test_default_suits_the_sweep(plan: Any, tmp_path: Path, options: str) -> None:
    """A default that is rejected, or whose paused trials start again, is worse than none."""
    given = (*SEARCH, *options.format(folder=tmp_path).split())
    chosen = plan(*given)
    percentile = {"name": "percentile", "percentile": 25.0, "n_startup_trials": 3}
    assert chosen.settings.pruner == percentile | {"n_warmup_steps": 2}
    assert chosen.why_pruner == UNSUITED[options]
    if "folds" not in options:
        # A pruner that is named is not replaced.
        named = plan(*given, "hydra/sweeper/pruner=promote")
        assert (named.settings.pruner["name"], named.why_pruner) == ("promote", None)


def test_study_keeps_the_default_it_began_with(plan: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With another pruner, paused trials would never be promoted, and their epochs be lost."""
    caplog.set_level("INFO")
    promoting = module("sweeps.promoting_search").PromotingSearch
    finite = ("search_space=none", "optimizer.lr=0.001,0.002,0.003,0.004,0.005,0.006")
    began = joined(plan(*finite, "hydra.sweeper.n_trials=4"))
    assert isinstance(began, promoting)
    # All configurations: this would be a grid.
    continued = plan(*finite, "hydra.sweeper.n_trials=6")
    assert continued.settings.pruner["name"] == "none"
    assert isinstance(joined(continued), promoting)
    assert caplog.messages[-1] == "pruner: promote, as the study began with it"
    # A study of an earlier version, which did not store the pruner.
    older = plan(*SEARCH)
    identity = module("sweeps.identity").identify(older, {})
    optuna_search, storage = module("sweeps.optuna_search"), module("sweeps.storage")
    older.folder.mkdir()
    lock = storage.FileLock(older.folder / "study.lock")
    journal = storage.open_journal(older.folder, lock)
    study = optuna_search.open_study(journal, older.name, older.objectives)
    study.set_user_attr("identities", {"all": [asdict(identity)]})
    for _ in range(2):
        search = joined(older)
        assert type(search.study.pruner).__name__ == "PercentilePruner"
        assert caplog.messages[-1] == "pruner: percentile, as the study began with it"


def accuracy(checkpoint: Path) -> float:
    """The share of right predictions on the test set, counted by NumPy."""
    import torch

    run = module("loading").load_run(checkpoint.parents[1])
    run.datamodule.setup("test")
    with torch.no_grad():
        batches = [(run.model(x).numpy(), y.numpy()) for x, y in run.datamodule.test_dataloader()]
    predictions, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    if predictions.ndim > 1:
        predictions = predictions.argmax(axis=1)
    return float(np.mean(predictions == labels, dtype=np.float64))


def test_all_trials_are_tested_when_asked_for(project: BakedProject, tmp_path: Path) -> None:
    """A table of a paper holds test accuracies of every row, each a mean over the seeds."""
    options = ("optimizer.lr=0.001,0.01", "hydra.sweeper.seeds=2", "hydra.sweeper.test=all")
    swept = sweep(project, tmp_path / "tested", *options)
    assert [row["state"] for row in swept.rows] == ["finished"] * 2
    for row in swept.rows:
        places = [swept.folder / row["folder"] / f"seed_{n}/checkpoints/best.ckpt" for n in (0, 1)]
        wanted = np.mean([accuracy(place) for place in places])
        # Of 359 images one is 0.0028.
        assert float(row["test/acc"]) == pytest.approx(wanted, abs=1e-6)
    report = (swept.folder / "report.html").read_text("utf-8")
    assert "<th>test/acc</th>" in report


USELESS = {
    "hydra.sweeper.test=some": "test must be winner or all, not 'some'",
    "hydra.sweeper.cpus_per_trial=2": "cpus_per_trial needs hydra.sweeper.workers=ray",
    "hydra.sweeper.gpus=[0] hydra.sweeper.workers=ray": "gpus has no effect on a cluster",
}


@pytest.mark.parametrize("options", USELESS)
def test_option_of_the_sweep_without_effect_is_refused(plan: Any, options: str) -> None:
    """Two cores per trial that only Ray would reserve are silently not reserved."""
    with pytest.raises(module("errors").UserError, match=USELESS[options]):
        plan(*SEARCH, *options.split())


def test_pruner_that_judges_single_seeds_is_reported(
    plan: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Who names a pruner gets it, and should know what it does to a mean over seeds."""
    warn = module("sweeps.preflight").warn_of_separate_runs
    seeds = ("search_space=none", "optimizer.lr=0.1,0.2", "seed=0,1,2")
    warn(plan(*seeds))
    warn(plan(*GRID, "hydra/sweeper/pruner=median"))
    assert not caplog.messages
    warn(plan(*seeds, "hydra/sweeper/pruner=median"))
    (sentence,) = caplog.messages
    assert "a mean over seed would lack those that are pruned" in sentence


def test_no_test_is_no_test(plan: Any) -> None:
    """Who keeps the test set for the end must not have it used by a sweep."""
    assert str(plan(*SEARCH).settings.test) == "winner"
    assert str(plan(*SEARCH, "test=false").settings.test) == "nothing"
    assert str(plan(*SEARCH, "hydra.sweeper.test=all").settings.test) == "all"
