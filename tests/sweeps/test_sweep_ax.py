"""Sweeps with Ax: the same search space, loop and files, and another engine."""

import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from ..support.modules import project_module
from ..support.sweeps import LR, kill_and_continue, sweep

AX = "hydra/sweeper=ax"


@pytest.fixture
def client(sweeps_package: Any) -> Callable[..., Any]:
    """Makes a client for a space."""

    def make(
        parameters: Sequence[Any],
        goals: Sequence[tuple[str, str]] = (("val/acc", "max"),),
        limits: dict[str, float] | None = None,
        **sampler: Any,
    ) -> Any:
        module, records, space = (sweeps_package(n) for n in ("ax.client", "types", "space"))
        return module.AxClient(
            space.Space(tuple(parameters)),
            [records.Objective(*goal) for goal in goals],
            limits or {},
            {"name": "ax"} | sampler,
            {"name": "none"},
            7,
        )

    return make


@pytest.fixture
def record(sweeps_package: Any) -> Callable[..., Any]:
    """Makes the record of a trial."""

    def make(number: int, params: dict[str, Any], *values: float, **more: Any) -> Any:
        state = more.pop("state", "finished")
        records = sweeps_package("types")
        return records.TrialRecord(number, records.State(state), params, values, **more)

    return make


def trials_of(path: Path) -> dict[int, str]:
    """The state of every trial in Ax's file, as Ax itself reads it."""
    from ax.api.client import Client

    summary = Client.load_from_json_file(str(path)).summarize()
    return dict(zip(summary.get("trial_index", ()), summary.get("trial_status", ()), strict=True))


def test_both_engines_leave_the_same(demo: BakedProject, tmp_path: Path) -> None:
    """Whatever reads the results of one sweep must read those of the other."""
    options = (LR, "model.net.width=range(8,33,8)", "hydra.sweeper.n_trials=8")
    ax = sweep(demo, tmp_path / "ax", AX, *options)
    optuna = sweep(demo, tmp_path / "optuna", *options)
    names = [{path.name for path in swept.folder.iterdir()} for swept in (ax, optuna)]
    assert names[0] == names[1] | {"ax.json"}
    assert list(ax.rows[0]) == list(optuna.rows[0])
    assert len(ax.rows) == 8
    assert set(trials_of(ax.folder / "ax.json").values()) <= {"COMPLETED", "EARLY_STOPPED"}
    report = (ax.folder / "report.html").read_text("utf-8")
    for figure in ("Ax: Sensitivity", "Ax: val/acc vs.", "Ax: val/acc (Mean) vs.", "Ax: Cross"):
        assert figure in report
    assert "Ax:" not in (optuna.folder / "report.html").read_text("utf-8")
    # Ax and its packages have much to say, and all of it at every trial.
    assert "[INFO" not in ax.printed
    assert "Warning" not in ax.printed


@pytest.mark.slow
def test_both_engines_find_as_good_a_model(demo: BakedProject, tmp_path: Path) -> None:
    """An engine that cannot find what the other finds is of no use, however clever."""
    options = ("hydra.sweeper.n_trials=24", "trainer.max_epochs=8")
    best = [
        float(sweep(demo, tmp_path / name, *engine, *options, small=False).rows[0]["val/acc"])
        for name, engine in (("ax", (AX,)), ("optuna", ()))
    ]
    assert min(best) >= 0.98
    assert abs(best[0] - best[1]) <= 0.01


@pytest.mark.slow
def test_killed_sweep_goes_on(demo: BakedProject, tmp_path: Path) -> None:
    """Hours of trials must not hang on one process."""
    done = kill_and_continue(demo, tmp_path / "killed", AX, total=9, kills=2)
    states = list(trials_of(done.folder / "ax.json").values())
    assert states.count("COMPLETED") == 9
    assert "RUNNING" not in states


def test_trials_that_are_behind_are_given_up(demo: BakedProject, tmp_path: Path) -> None:
    """Ax's own strategy stops nothing unless it is told by which metric."""
    swept = sweep(
        demo,
        tmp_path / "pruned",
        AX,
        LR,
        "trainer.max_epochs=5",
        "hydra.sweeper.n_trials=10",
        "hydra.sweeper.workers=1",
        "hydra/sweeper/pruner=ax",
        "hydra.sweeper.pruner.min_curves=1",
    )
    states = swept.states()
    assert states["PRUNED"] >= 1
    assert sum(states.values()) == 10
    known = list(trials_of(swept.folder / "ax.json").values())
    assert known.count("EARLY_STOPPED") == states["PRUNED"]
    assert known.count("COMPLETED") == states["COMPLETE"]
    for trial in swept.study.trials:
        assert (len(trial.intermediate_values) < 5) == (trial.state.name == "PRUNED")


def test_every_kind_of_parameter_keeps_its_meaning(sweeps_package: Any, client: Any) -> None:
    """A step that is ignored, or a condition, makes trials that nobody asked for."""
    make = sweeps_package("space").Parameter
    parameters = {
        "optimizer.lr": make("optimizer.lr", low=1e-4, high=1e-1, log=True),
        "depth": make("depth", low=1, high=8, step=1, is_integer=True),
        "width": make("width", low=1, high=4096, log=True, is_integer=True),
        "batch": make("batch", low=32, high=128, step=32, is_integer=True),
        "dropout": make("dropout", low=0.1, high=0.5, step=0.1),
        "sizes": make("sizes", choices=(16, 32, 64)),
        "mixed": make("mixed", choices=(1, 0.5)),
        "flag": make("flag", choices=("true", "null", 3)),
        "model": make("model", choices=("mlp", "cnn"), is_group=True),
        "momentum": make("+momentum", low=0.5, high=0.9, when=(("model", ("cnn",)),)),
        "alone": make("alone", choices=(7,)),
        "point": make("point", low=2.0, high=2.0),
    }
    ax = client(list(parameters.values()), method="random_search")
    points = [ax.propose().params for _ in range(24)]
    for point in points:
        assert ("+momentum" in point) == (point["model"] == "cnn")
        for parameter in parameters.values():
            if parameter.key not in point:
                continue
            value = point[parameter.key]
            if parameter.choices or parameter.step:
                known = [(type(v), v) for v in parameter.points()]
                assert (type(value), value) in known
            else:
                assert parameter.low <= value <= parameter.high
                assert isinstance(value, int) == parameter.is_integer
    # Half of a logarithmic range lies below its geometric mean.
    assert 6 <= sum(point["optimizer.lr"] < 10**-2.5 for point in points) <= 18
    assert {point["batch"] for point in points} == {32, 64, 96, 128}


def test_numbers_keep_to_inequalities(sweeps_package: Any, client: Any) -> None:
    """Two parts of one whole, as shares of memory, cannot be chosen one by one."""
    make = sweeps_package("space").Parameter
    parameters = [make("model.a", low=0.0, high=1.0), make("model.b", low=0.0, high=1.0)]
    ax = client(parameters, parameter_constraints=["model.a + model.b <= 0.6"])
    for _ in range(8):
        assert sum(ax.propose().params.values()) <= 0.6 + 1e-9


@pytest.mark.slow
def test_goals_and_limits_steer_the_search(sweeps_package: Any, client: Any, record: Any) -> None:
    """What is wanted is accurate and small, and nothing above the limit."""
    parameters = [sweeps_package("space").Parameter("x", low=0.0, high=1.0)]
    ax = client(
        parameters,
        goals=[("val/acc", "max"), ("seconds", "min")],
        limits={"parameters": 500.0},
        initialization_budget=4,
    )
    points = [ax.propose() for _ in range(4)]
    for number, point in enumerate(points):
        x = point.params["x"]
        ax.link(number, point)
        ax.catch_up([record(number, point.params, x, x * x, metrics={"parameters": 1000 * x})])
    assert ax.propose().params["x"] <= 0.65, "above the limit nothing is to be won"


def test_client_learns_everything_from_the_study(
    sweeps_package: Any, client: Any, record: Any, tmp_path: Path
) -> None:
    """The study is the only source; Ax's own file is for Ax's own tools."""
    parameters = [sweeps_package("space").Parameter("x", low=0.0, high=1.0)]
    records = [
        record(0, {"x": 0.1}, 0.1, steps={1: 0.05, 2: 0.1}),
        record(1, {"x": 0.2}, state="pruned", steps={1: 0.01}),
        record(2, {"x": 0.3}, state="failed"),
        record(3, {"x": 0.4}, state="running"),
        record(4, {}, state="waiting"),
    ]
    path = tmp_path / "ax.json"
    path.write_text('{"torn": ')
    ax = client(parameters)
    ax.catch_up(records)
    ax.export(path)
    assert list(trials_of(path).values()) == ["COMPLETED", "EARLY_STOPPED", "ABANDONED", "RUNNING"]
    assert [file.name for file in tmp_path.iterdir()] == ["ax.json"]


@pytest.mark.slow
def test_resumed_sweep_does_not_read_the_export(demo: BakedProject, tmp_path: Path) -> None:
    """A file that Ax writes for its tools must not decide what a sweep tries next."""
    options = (AX, LR, "hydra.sweeper.workers=1", "hydra.sweeper.sampler.initialization_budget=3")
    start = tmp_path / "start"
    points = {}
    for change in ("none", "missing", "torn"):
        folder = tmp_path / change / "study"
        if not start.exists():
            sweep(demo, folder, *options, "hydra.sweeper.n_trials=4")
            shutil.copytree(folder, start)
        else:
            shutil.copytree(start, folder)
        export = folder / "ax.json"
        if change == "missing":
            export.unlink()
        elif change == "torn":
            export.write_text(export.read_text("utf-8")[:500], "utf-8")
        done = sweep(demo, folder, *options, "hydra.sweeper.n_trials=6")
        points[change] = [trial.params for trial in done.counting]
        assert list(trials_of(export).values()) == ["COMPLETED"] * 6
    assert len(points["none"]) == 6
    assert points["missing"] == points["torn"] == points["none"]


MISTAKES = {
    ("hydra/sweeper/pruner=ax",): "pruner=ax needs hydra/sweeper=ax.",
    (AX, "hydra.sweeper.sampler.method=slow"): "is fast, quality, random_search, not 'slow'.",
    (AX, "+hydra.sweeper.sampler.methd=fast"): "has no 'methd'; did you mean 'method'?",
    (
        AX,
        "hydra/sweeper/pruner=ax",
        "hydra.sweeper.pruner.min_curves=few",
    ): "min_curves is a number, not 'few'.",
    (
        AX,
        "hydra.sweeper.sampler.parameter_constraints=['wdth <= 1']",
    ): "does not accept this search: ",
}


@pytest.mark.parametrize("options", MISTAKES, ids=" ".join)
def test_mistake_is_told_in_one_sentence(
    options: tuple[str, ...], demo: BakedProject, tmp_path: Path
) -> None:
    """Who mistypes an option wants to know before the night begins."""
    swept = sweep(demo, tmp_path / "none", LR, *options, check=False)
    assert MISTAKES[options] in swept.printed
    assert "Traceback" not in swept.printed
    assert not (swept.folder / "journal.log").exists()


@pytest.mark.parametrize("found", [None, "0.5.0"])
def test_missing_package_is_named_with_the_command(
    found: str | None, sweeps_package: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ax is an extra: most who try it first do not have it."""
    module = sweeps_package("ax")

    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(module, "version", version)
    errors = project_module("demo", "errors")
    with pytest.raises(errors.UserError, match=r"uv sync --extra ax"):
        module.check_ax(module.SAMPLER, module.PRUNER)
