"""A sweep over models and data that know nothing of the project."""

import csv
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ..conftest import Bake, BakedProject
from ..support.in_process import Project, on_one_thread
from ..support.sweep_modules import MODULE, PLAIN, bake_with_modules
from ..support.sweeps import Swept, start_sweep, sweep, wait_until

SPACE = """\
# @package hydra.sweeper.search_space
optimizer.lr: tag(log, interval(1e-4, 1e-1))
model.net.width: choice(8, 16)
model.lr: choice(0.01, 0.1)
"""
STRANGE = "error (a, b) = 50% <i>"


@pytest.fixture(scope="module")
def baked(bake: Bake) -> BakedProject:
    project = bake_with_modules(bake)
    (project.root / "configs" / "search_space" / "wide.yaml").write_text(SPACE)
    return project


@pytest.fixture(scope="module")
def project(baked: BakedProject, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with on_one_thread(baked.root, tmp_path_factory.mktemp("own")) as found:
        yield found


@pytest.fixture
def plan(project: Project, tmp_path: Path) -> Callable[..., Any]:
    """Makes the plan of a command, as `train.py -m` does."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    project.module("runs.directory").register_resolvers()

    def make(*options: str) -> Any:
        given = [*PLAIN, "objective.metric=val_loss", *options, f"hydra.sweep.dir={tmp_path}"]
        with initialize_config_dir(str(project.root / "configs"), version_base="1.3"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            master = hydra.compose_config("train", given, run_mode=RunMode.MULTIRUN)
            words = [word for word in given if not word.startswith("hydra")]
            return project.module("sweeps.command").make_plan(hydra.config_loader, master, words)

    return make


@pytest.fixture
def logged(project: Project, tmp_path: Path) -> Callable[..., Any]:
    """The names that the check before the first trial finds."""

    def check(*options: str, monitored: tuple[str, ...] = ()) -> Any:
        cfg = project.configure("train", tmp_path, *PLAIN, "objective.metric=val_loss", *options)
        return project.module("dry_run").check(cfg, monitored=monitored).metrics

    return check


TRAIN, VAL = ["train_loss"], ["val_loss"]
LOGGED = {
    "plain": ((), TRAIN + VAL),
    "no validation": (("data=notvalidated",), TRAIN),
    "endless epoch": (("data=stream", "trainer.max_epochs=-1", "trainer.max_steps=9"), TRAIN + VAL),
    "validated by steps": (
        ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=100"),
        TRAIN + VAL,
    ),
    "validated seldom": (("trainer.check_val_every_n_epoch=5",), TRAIN + VAL),
    "steps and epochs": (
        ("model=several",),
        [STRANGE, "rate", "train_loss", "train_loss_epoch", "train_loss_step", "val_loss"],
    ),
    "two loaders": (
        ("model=several", "data=twosplits"),
        [
            STRANGE,
            "rate",
            "train_loss",
            "train_loss_epoch",
            "train_loss_step",
            "val_loss/dataloader_idx_0",
            "val_loss/dataloader_idx_1",
        ],
    ),
    # Its warm-up lasts for no step at all where the training has a single one.
    "schedule": (("model=warm",), TRAIN + VAL),
    "accumulated": (("trainer.accumulate_grad_batches=4",), TRAIN + VAL),
    # It may log later.
    "nothing": (("model=silent",), None),
}


@pytest.mark.parametrize("name", LOGGED)
def test_names_are_found_before_the_first_trial(logged: Any, tmp_path: Path, name: str) -> None:
    """A misspelt objective would otherwise be noticed after the first validation of each trial."""
    options, names = LOGGED[name]
    assert logged(*options) == names
    # A training that is only tried leaves nothing.
    assert not list(tmp_path.rglob("*.*"))


def test_callbacks_may_log_the_objective(logged: Any) -> None:
    """What a trial measures is known only with its callbacks."""
    options = (f"+callbacks.own._target_={MODULE}.Logs",)
    assert logged(*options, monitored=("from_callback",)) == [
        "from_callback",
        "train_loss",
        "val_loss",
    ]
    # A callback that cannot be tried says nothing about the metric.
    broken = (f"+callbacks.own._target_={MODULE}.Fails",)
    assert logged(*broken, monitored=("from_callback",)) is None


def test_error_in_a_step_is_the_users_own(logged: Any) -> None:
    """Whoever wrote the step has to see where it fails."""
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        logged("model=broken")
    assert caught.traceback[-1].name == "validation_step"


def test_unknown_metric_is_refused_with_all_names(project: Project) -> None:
    check = project.module("sweeps.preflight")._check_metrics
    with pytest.raises(project.module("errors").UserError) as caught:
        check(["val_los"], ["train_loss", "val_loss", "test/loss"])
    assert str(caught.value) == (
        "No trial measures 'val_los'; the metrics are parameters, seconds, train_loss, val_loss."
    )
    check(["val_loss", "parameters"], ["val_loss"])


def keys(plan: Any) -> dict[str, tuple[Any, ...]]:
    """What varies, and when."""
    return {parameter.key: parameter.when for parameter in plan.space.parameters}


def test_entry_of_a_file_that_does_not_exist_is_left_out(
    plan: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A space is written for some models and chosen by the experiment."""
    caplog.set_level("INFO")
    assert keys(plan("search_space=wide")) == {"optimizer.lr": (), "model.lr": ()}
    assert [r.getMessage() for r in caplog.records if "dropped" in r.getMessage()] == [
        "dropped from the search space (the config has no such option): model.net.width"
    ]
    assert keys(plan("search_space=wide", "model=several")) == {
        "optimizer.lr": (),
        "model.net.width": (),
        "model.lr": (),
    }


def test_entry_varies_with_the_models_that_have_it(plan: Any) -> None:
    """Where models vary too, each has its own options."""
    assert keys(plan("search_space=wide", "model=lit,several,mlp")) == {
        "model": (),
        "optimizer.lr": (),
        "model.net.width": (("model", ("several", "mlp")),),
        "model.lr": (("model", ("lit", "several")),),
    }


def test_typed_option_that_does_not_exist_is_refused(plan: Any) -> None:
    """Leaving it out would train something else than was asked for."""
    from hydra.errors import ConfigCompositionException

    with pytest.raises(ConfigCompositionException, match=r"model\.net\.width"):
        plan("search_space=none", "model.net.width=8,16")


def test_nothing_left_to_vary_says_what_to_write(project: Project, plan: Any) -> None:
    """The name of an option that the chosen model has."""
    with pytest.raises(project.module("errors").UserError, match=r"such as model\.lr=<value>,"):
        plan("search_space=none")


@pytest.mark.parametrize("options", [("objective=null",), ("objective.metric=null",)])
def test_sweep_without_an_objective_is_refused(
    project: Project, plan: Any, options: tuple[str, ...]
) -> None:
    """There would be no best trial and nothing to search for."""
    with pytest.raises(project.module("errors").UserError, match=r"objective\.metric=<a metric"):
        plan("model.lr=0.1,0.2", *options)


def test_sweep_runs_prunes_resumes_and_reports(
    baked: BakedProject, project: Project, tmp_path: Path
) -> None:
    """All of it at once, since each sweep costs seconds: the promises for code of anybody."""
    folder = tmp_path / "study"
    options = (
        *PLAIN,
        "model=several",
        "data=twosplits",
        "search_space=default",
        "model.lr=0.1,0.01,1e-4",
        "objective.metric=val_loss/dataloader_idx_1",
        "trainer.max_epochs=-1",
        "trainer.max_steps=20",
        "trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=5",
        "hydra/sweeper/pruner=median",
        "hydra.sweeper.pruner.n_startup_trials=1",
        "hydra.sweeper.pruner.n_warmup_steps=2",
        "hydra.sweeper.workers=1",
    )
    swept = sweep(baked, folder, *options, small=False)
    assert "dropped from the search space (no effect on this model): optimizer." in swept.printed
    assert swept.printed.count("no test_step") == 1
    states = {float(row["model.lr"]): (row["state"], row["validations"]) for row in swept.rows}
    assert states[0.1] == ("finished", "4")
    # Validations before the second are not judged (n_warmup_steps).
    assert states[1e-4] == ("pruned", "2")
    assert '"title":{"text":"validation"}' in (folder / "report.html").read_text("utf-8")
    best = swept.rows[0]
    winner = f"experiment={folder / 'best.yaml'}"
    project.module("experiment_files").register_experiments([winner])
    again = project.configure("train", tmp_path / "again", winner)
    metrics = project.module("training").train(again)
    assert metrics["val_loss/dataloader_idx_1"] == float(best["val_loss/dataloader_idx_1"])


METRICS = [
    "val/loss",
    "val_loss",
    "val_loss/dataloader_idx_1",
    STRANGE,
    "beta",
    "lambda",
    "1st",
    "%",
]


def test_ax_takes_metrics_of_any_name(project: Project, tmp_path: Path) -> None:
    """To Ax a name is part of a formula: beta would be a function, and error (a, b) a product."""
    pytest.importorskip("ax")
    client, records = project.module("sweeps.ax.client"), project.module("sweeps.types")
    names = client.ax_names(METRICS)
    assert len(set(names.values())) == len(METRICS)
    assert names["val/loss"] == "val/loss"
    space = project.module("sweeps.space")
    lr = space.Space((space.Parameter("model.lr", low=0.1, high=0.2),))
    goals = [records.Objective(name, "min") for name in METRICS[:2]]
    limits = dict.fromkeys(METRICS[2:], 1.0)
    about = (lr, goals, limits, {"name": "ax"}, {"name": "none"})
    found = client.AxClient(*about, 0)
    values = dict.fromkeys(METRICS, 0.5)
    found.catch_up(
        [
            records.TrialRecord(
                0, records.State.FINISHED, {"model.lr": 0.15}, (0.5, 0.5), metrics=values
            )
        ]
    )
    found.export(tmp_path / "ax.json")
    data = json.loads((tmp_path / "ax.json").read_text("utf-8"))
    assert all(name in json.dumps(data) for name in names.values())


def test_column_of_a_metric_is_no_other_column(project: Project, tmp_path: Path) -> None:
    """A metric may be called error, and still it is not the text of the error."""
    records, results = project.module("sweeps.types"), project.module("sweeps.leaderboard")
    metrics = {"error": 0.25, "lr": 0.5, 'a,"b"': 1.0}
    trial = records.TrialRecord(0, records.State.FINISHED, {"lr": 0.1}, (0.25,), {1: 0.25}, metrics)
    goals = [records.Objective("error", "min")]
    path = tmp_path / "leaderboard.csv"
    results.write_leaderboard(path, [trial], goals, records.Unit.VALIDATION)
    with path.open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert (row["metric error"], row["error"]) == ("0.25", "")
    assert (row["metric lr"], row["lr"]) == ("0.5", "0.1")
    assert (row['a,"b"'], row["validations"]) == ("1.0", "1")


@pytest.mark.parametrize("metric", ["train_loss", "step_error", "stateful", "train/loss"])
def test_objective_of_any_name_is_in_the_report(
    project: Project, tmp_path: Path, metric: str
) -> None:
    """The table leaves out what makes it wide, and never what the sweep is about."""
    records, space = project.module("sweeps.types"), project.module("sweeps.space")
    trial = records.TrialRecord(
        0, records.State.FINISHED, {"lr": 0.1}, (0.5,), metrics={metric: 0.5, "train/acc": 0.1}
    )
    page = tmp_path / "report.html"
    goals = [records.Objective(metric, "min")]
    project.module("sweeps.report_page").write_report(
        page, "s", [trial], goals, space.Space(()), {}
    )
    text = page.read_text("utf-8")
    assert f"<th>{metric}</th>" in text
    assert "<th>train/acc</th>" not in text


def test_length_of_trials_suits_ray_tune(project: Project) -> None:
    """Hyperband would give each trial a share of epochs that nobody counts."""
    check = project.module("sweeps.ray_tune").check_length
    error = project.module("errors").UserError
    asha, hyperband = (SimpleNamespace(pruner={"name": name}) for name in ("asha", "hyperband"))
    check(asha, max_epochs=None, is_endless=False)
    check(hyperband, max_epochs=9, is_endless=False)
    with pytest.raises(error, match=r"divides trainer\.max_epochs"):
        check(hyperband, max_epochs=None, is_endless=False)
    with pytest.raises(error, match=r"give trainer\.max_epochs or trainer\.max_steps"):
        check(asha, max_epochs=None, is_endless=True)


ENGINES = {
    "optuna": (),
    "ax": ("hydra/sweeper=ax",),
    "ray": ("hydra/sweeper=ray",),
    "workers of ray": ("hydra.sweeper.workers=ray:2",),
    "pbt": (
        "hydra/sweeper=ray",
        "hydra/sweeper/pruner=pbt",
        "hydra.sweeper.pruner.mutate=[model.lr]",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["val_loss/dataloader_idx_1", STRANGE])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_takes_own_modules(
    baked: BakedProject, tmp_path: Path, engine: str, objective: str
) -> None:
    """A training in steps, metrics of any name, two loaders, and no test."""
    for package in {"ax": ["ax"], "optuna": []}.get(engine, ["ray"]):
        pytest.importorskip(package)
    swept = sweep(
        baked,
        tmp_path / "study",
        *PLAIN,
        *ENGINES[engine],
        "model=several",
        "data=twosplits",
        "model.lr=tag(log,interval(1e-3,0.2))",
        f"objective.metric='{objective}'",
        "trainer.max_epochs=-1",
        "trainer.max_steps=40",
        "trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=5",
        "hydra.sweeper.n_trials=6",
        "hydra.sweeper.workers=2" if engine != "workers of ray" else "name=own",
        small=False,
    )
    assert len(swept.rows) == 6
    assert {row["state"] for row in swept.rows} <= {"finished", "pruned"}
    assert swept.rows[0]["validations"] == "8"
    assert float(swept.rows[0][objective]) < 1
    assert (swept.folder / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["optuna", "ray"])
def test_sweep_of_steps_is_continued(baked: BakedProject, tmp_path: Path, engine: str) -> None:
    """Ctrl-C ends trials within an endless epoch, and the next command resumes them there."""
    if engine == "ray":
        pytest.importorskip("ray")
    options = (
        *PLAIN,
        *ENGINES[engine],
        "data=stream",
        "model.lr=tag(log,interval(1e-3,0.2))",
        "objective.metric=val_loss",
        "trainer.max_epochs=-1",
        "trainer.max_steps=60",
        "trainer.limit_train_batches=null",
        "trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=5",
        f"+callbacks.slow._target_={MODULE}.Slow",
        "hydra/sweeper/pruner=none",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.workers=2",
    )
    folder = tmp_path / "study"
    process = start_sweep(baked, folder, *options)
    wait_until(lambda: len(list(folder.glob("trials/*/checkpoints/last.ckpt"))) == 2)
    process.send_signal(signal.SIGINT)
    printed, _ = process.communicate()
    assert process.returncode == 130, printed
    first = Swept(folder).rows
    assert {row["state"] for row in first} == {"stopped"}
    assert all(0 < int(row["validations"]) < 12 for row in first)
    second = sweep(baked, folder, *options)
    assert {row["state"] for row in second.rows} == {"finished"}
    assert {row["validations"] for row in second.rows} == {"12"}
    assert {row["model.lr"] for row in second.rows} == {row["model.lr"] for row in first}
    logs = [path.read_text("utf-8") for path in folder.glob("trials/*/run.log")]
    assert sum("resumed within epoch 1" in log for log in logs) == 2


@pytest.mark.slow
def test_error_in_a_step_ends_the_sweep_before_its_first_trial(
    baked: BakedProject, tmp_path: Path
) -> None:
    """The console shows the line of the step, and nothing is left behind."""
    options = (*PLAIN, "model=broken", "model.lr=0.1,0.2", "objective.metric=val_loss")
    swept = sweep(baked, tmp_path / "study", *options, small=False, check=False)
    assert 'raise ZeroDivisionError("mine")' in swept.printed
    assert "error: ZeroDivisionError: mine (see " in swept.printed.splitlines()[-1]
    assert not swept.folder.exists()


@pytest.mark.slow
def test_seeds_of_a_training_in_steps_are_averaged(baked: BakedProject, tmp_path: Path) -> None:
    """Each seed is a training of its own, and the objective is the mean over them."""
    swept = sweep(
        baked,
        tmp_path / "study",
        *PLAIN,
        "model.lr=0.1,0.01",
        "objective.metric=val_loss",
        "trainer.max_epochs=-1",
        "trainer.max_steps=20",
        "trainer.check_val_every_n_epoch=null",
        "trainer.val_check_interval=5",
        "hydra.sweeper.seeds=2",
        small=False,
    )
    for row in swept.rows:
        runs = [
            json.loads((swept.folder / row["folder"] / f"seed_{seed}" / "run.json").read_text())
            for seed in (0, 1)
        ]
        best = [run["metrics"]["best"]["val_loss"] for run in runs]
        assert best[0] != best[1]
        assert float(row["val_loss"]) == pytest.approx(sum(best) / 2)
        assert row["validations"] == "8"
