"""Choices of a sweep that compare equal but mean different things: 1, 1.0, true and "1"."""

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from ..conftest import BakedProject
from ..support.sweeps import sweep

needs_ax = pytest.mark.skipif(find_spec("ax") is None, reason="needs ax-platform")
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray Tune")

# Five values to Hydra: an integer, a float, a boolean, a string and another float.
CHOICES = (1, 1.0, "true", "'1'", 2.0)
TYPED = [(type(choice), choice) for choice in CHOICES]


@pytest.fixture
def space(sweeps_package: Any) -> Any:
    """A space of one option with these choices, and one of two numbers."""
    module = sweeps_package("space")
    return module.Space(
        (
            module.Parameter("x", choices=CHOICES),
            module.Parameter("y", choices=(0, 0.0)),
        )
    )


@pytest.fixture(scope="module")
def parse(sweeps_package: Any, demo: BakedProject) -> Any:
    """Reads the search space of a command."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path

    loader = ConfigLoaderImpl(create_config_search_path(str(demo.root / "configs")))
    return lambda *options: sweeps_package("space").parse_space({}, list(options), loader)[0]


def typed(params: dict[str, Any]) -> dict[str, tuple[type, Any]]:
    """Values that differ where their types do."""
    return {key: (type(value), value) for key, value in params.items()}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("x=1,1.0", [1, 1.0]),
        ("x=1.0,1,true,'1',1e0,1", [1.0, 1, "true", "'1'"]),
        ("x=True,true,TRUE,1", ["true", 1]),
        ("x=0,-0.0,0.0,false,null", [0, -0.0, 0.0, "false", "null"]),
        ("x=a,'a',\"a\",b", ["a", "b"]),
        ("x=nan,nan,.nan", [float("nan"), ".nan"]),
        ("x=[1],[1.0],[1]", ["[1]", "[1.0]"]),
        ("x=1000.0,1e3,1000", [1000.0, 1000]),
    ],
)
def test_every_type_is_a_choice_of_its_own(parse: Any, option: str, expected: list[Any]) -> None:
    """One of two choices would never be tried."""
    (parameter,) = parse(option).parameters
    assert [repr(choice) for choice in parameter.choices] == [repr(value) for value in expected]


def test_file_of_a_space_keeps_types(sweeps_package: Any, demo: BakedProject) -> None:
    """YAML tells '1' from 1, and so must the space."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path

    loader = ConfigLoaderImpl(create_config_search_path(str(demo.root / "configs")))
    entries = yaml.safe_load("x: [1, '1', 1.0, true, 'true', null, 'null', a b, '']")
    space, _ = sweeps_package("space").parse_space(entries, [], loader)
    (parameter,) = space.parameters
    parsed = sweeps_package("plan").parsed
    values = [parsed(f"x={word}") for word in parameter.by_text]
    assert [repr(value) for value in values] == [repr(value) for value in entries["x"]]


def test_grid_tries_every_type(space: Any) -> None:
    """Five choices beside two are ten points."""
    points = [typed(point) for point in space.grid()]
    wanted = [{"x": x, "y": y} for x in TYPED for y in ((int, 0), (float, 0.0))]
    assert points == wanted


@pytest.mark.parametrize("sampler", ["tpe", "random", "bruteforce", "nsga2"])
def test_samplers_tell_types_apart(
    sweeps_package: Any, space: Any, sampler: str, tmp_path: Path
) -> None:
    """A study that is opened again still knows which of them a trial had."""
    search, journal, records = map(sweeps_package, ("optuna_search", "storage", "types"))
    objective = records.Objective("loss", "min")
    loss = {str(kind): float(rank) for rank, kind in enumerate(TYPED)}
    asked: list[dict[str, Any]] = []
    for total in (20, 30):
        lock = journal.FileLock(tmp_path / "lock")
        storage = journal.open_journal(tmp_path, lock)
        optuna_study = _study(storage)
        searching = search.OptunaSearch(optuna_study, space, [objective], total, 0, {}, lock)
        searching.join({"name": sampler}, {"name": "none"}, 0)
        searching.lay_out([{"x": 1.0}, {"x": 1}])
        while (trial := searching.ask("0")) is not None:
            asked.append(typed(trial.params))
            metrics = {"loss": loss[str(asked[-1]["x"])]}
            searching.tell(trial.number, records.TrialOutcome(records.State.FINISHED, metrics))
        searching.close()
    assert [point["x"] for point in asked[:2]] == [(float, 1.0), (int, 1)]
    assert {str(point["x"]) for point in asked} == set(loss)
    assert [typed(record.params) for record in searching.records()] == asked
    for record in searching.records():
        assert record.values == (loss[str((type(record.params["x"]), record.params["x"]))],)


def _study(storage: Any) -> Any:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name="types", storage=storage, load_if_exists=True)


@needs_ax
def test_ax_tells_types_apart(sweeps_package: Any, space: Any) -> None:
    """Ax has numbers of one type only."""
    module, records = sweeps_package("ax.client"), sweeps_package("types")
    goal = [records.Objective("loss", "min")]
    ax = module.AxClient(space, goal, {}, {}, {"name": "none"}, 7)
    points = space.grid()
    for parameter in space.parameters:
        for value in parameter.choices:
            back = module._from_ax(parameter, module._to_ax(parameter, value))
            assert (type(back), back) == (type(value), value)
    finished = records.State.FINISHED
    ax.catch_up([records.TrialRecord(n, finished, p, (n,)) for n, p in enumerate(points)])
    summary = ax._client.summarize()
    known = set(zip(summary["x"], summary["y"], strict=True))
    assert known == {(x, y) for x in ("1", "1.0", "true", "'1'", "2.0") for y in ("0", "0.0")}


@needs_ray
def test_ray_tune_tells_types_apart(sweeps_package: Any, space: Any) -> None:
    """What Ray Tune is given must come back as what it stands for."""
    tuned = sweeps_package("ray_tune.space").TuneSpace(space)
    drawn = tuned.distributions()
    for point in space.grid():
        config = tuned.config_of(point)
        assert all(config[key] in drawn[key].categories for key in point)
        assert typed(tuned.params_of(config)) == typed(point)


def test_report_tells_types_apart(sweeps_package: Any, space: Any) -> None:
    """Figures that merge two choices show the mean of both."""
    records = sweeps_package("types")
    goal = [records.Objective("loss", "min")]
    rows = [
        records.TrialRecord(number, records.State.FINISHED, point, (float(number),))
        for number, point in enumerate(space.grid())
    ]
    study = sweeps_package("figures").make_study(rows, goal, space)
    shown = [tuple(trial.params.values()) for trial in study.trials]
    texts = ("1", "1.0", "true", "'1'", "2.0")
    assert shown == [(x, y) for x in texts for y in ("0", "0.0")]
    words = sweeps_package("display").words_of
    assert words({"a.x": 1, "a.y": 1.0, "a.z": 0.123456}) == "x=1 y=1.0 z=0.1235"


def test_one_batch_and_all_batches_are_two_trials(demo: BakedProject, tmp_path: Path) -> None:
    """Lightning reads 1 as one batch and 1.0 as all of them."""
    option = "trainer.limit_train_batches"
    # The later option of a command overrules the earlier one.
    swept = sweep(demo, tmp_path / "types", f"{option}=1,1.0", "data.batch_size=600", "test=false")
    with (swept.folder / "leaderboard.csv").open(newline="") as file:
        rows = {row[option]: row for row in csv.DictReader(file)}
    assert set(rows) == {"1", "1.0"}
    for word, row in rows.items():
        config = yaml.safe_load((swept.folder / row["folder"] / "config.yaml").read_text("utf-8"))
        assert repr(config["trainer"]["limit_train_batches"]) == word
    best = yaml.safe_load((swept.folder / "best.yaml").read_text("utf-8"))
    assert repr(best["trainer"]["limit_train_batches"]) == swept.rows[0][option]
    # As optuna-dashboard reads it.
    assert {trial.params[option] for trial in swept.study.trials} == {"1", "1.0"}


def test_value_may_refer_to_another_one(demo: BakedProject, tmp_path: Path) -> None:
    """Every trial would fail, or all of them would write to the same folder."""
    keep = "+callbacks.kept={_target_:pytorch_lightning.callbacks.ModelCheckpoint,dirpath:"
    options = (keep + "'${paths.output_dir}/kept'}", "hydra.sweeper.n_trials=2")
    swept = sweep(demo, tmp_path / "study", *options, "hydra.sweeper.workers=1", "seed=1,2")
    for row in swept.rows:
        assert row["state"] == "finished"
        assert list((swept.folder / row["folder"] / "kept").glob("*.ckpt"))
