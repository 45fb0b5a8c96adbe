"""What a sweep leaves behind: who won, the winner as an experiment, and a page to look at."""

import csv
import json
import math
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..conftest import Bake, BakedProject, run
from ..runs.test_start_time import HEAVY, imported
from ..support.modules import project_module
from ..support.training_runs import ON_CPU, run_all

Part = Callable[[str], ModuleType]
Compose = Callable[..., Any]


@pytest.fixture(scope="module")
def project(bake: Bake) -> BakedProject:
    return bake(project_name="Sweep results", package_name="sweep_results_project")


@pytest.fixture(scope="module")
def package(project: BakedProject) -> Iterator[Part]:
    """Imports a module of the project into this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(project.root)
        yield lambda name: project_module("sweep_results_project", name)


@pytest.fixture(scope="module")
def compose(project: BakedProject, package: Part) -> Compose:
    """Composes a config as `train.py` does."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    package("runs.directory").register_resolvers()

    def compose_options(*options: str) -> Any:
        package("experiment_files").register_experiments(options)
        with initialize_config_dir(str(project.root / "configs"), version_base="1.3"):
            return OmegaConf.to_container(compose("train", list(options)))

    return compose_options


def numbers(records: Sequence[Any]) -> list[int]:
    return [record.number for record in records]


# Who won


@pytest.mark.parametrize(("mode", "winner"), [("max", 2), ("min", 5)])
def test_best_is_the_first_of_equals(
    package: Part, make: Any, goals: Any, mode: str, winner: int
) -> None:
    """A winner that changes with the order of the trials cannot be trusted."""
    records = [make(n, v) for n, v in [(7, 0.9), (2, 0.9), (6, 0.1), (5, 0.1), (3, 0.5)]]
    assert numbers(package("sweeps.leaderboard").best_trials(records, goals(mode))) == [winner]


def test_only_valid_trials_win(package: Part, make: Any, goals: Any) -> None:
    """A replaced trial, one over its limit or a NaN on top would be retrained for nothing."""
    records = [
        make(0, 0.99, superseded=True),
        make(1, 0.98, constraints={"parameters": 5.0}),
        make(2, math.nan),
        make(3, 0.97, state="pruned"),
        make(4, state="finished"),
        make(5, 0.5, constraints={"parameters": 0.0, "seconds": -3.0}),
    ]
    best_trials = package("sweeps.leaderboard").best_trials
    assert numbers(best_trials(records, goals("max"))) == [5]
    assert best_trials(records[:5], goals("max")) == []
    assert best_trials([], goals("max", "min")) == []


def beats(one: Any, other: Any) -> bool:
    """For the highest first and the lowest second value."""
    (a, b), (c, d) = one.values, other.values
    return (a, b) != (c, d) and a >= c and b <= d


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_front_is_what_nothing_beats(
    package: Part, make: Any, goals: Any, values: list[tuple[int, int]]
) -> None:
    """A trial that is missing from the front is a trade-off that nobody hears of."""
    records = [make(number, *map(float, pair)) for number, pair in enumerate(values)]
    front = package("sweeps.leaderboard").best_trials(records, goals("max", "min"))
    for record in records:
        beaten = any(beats(other, record) for other in records)
        assert (record in front) is not beaten


def test_leaderboard_goes_from_best_to_waiting(package: Part, make: Any, goals: Any) -> None:
    """Whoever reads only the top of a table must find there what is of use."""
    records = [
        make(0, state="waiting"),
        make(1, state="running"),
        make(2, state="failed"),
        make(3, state="pruned", steps={1: 0.9, 2: 0.3}),
        make(4, state="pruned", steps={1: 0.1, 2: 0.6}),
        make(5, state="pruned"),
        make(6, state="pruned", steps={1: math.nan}),
        make(7, 0.99, constraints={"parameters": 1.0}),
        make(8, 0.7),
        make(9, 0.8),
        make(10, state="failed", superseded=True),
    ]
    order = numbers(package("sweeps.leaderboard").ranked(records, goals("max")))
    assert order == [9, 8, 7, 4, 3, 5, 6, 2, 1, 0]


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_leaderboard_holds_every_trial(
    package: Part, make: Any, goals: Any, tmp_path: Path
) -> None:
    """A column that is missing has to be gathered from a hundred folders."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    times = {"started": begin, "ended": begin + timedelta(seconds=90)}
    records = [
        make(0, 0.1 + 0.2, params={"model": "mlp", "optimizer.lr": 1e-5}, steps={1: 0.1}, **times),
        make(
            1,
            0.9,
            params={"model": "cnn", "note": "'a, b'"},
            metrics={"val/loss": 0.25, "seconds": 9.5},
        ),
        make(2, state="failed", error='ValueError: "x",\ny', worker="node:1"),
    ]
    path = tmp_path / "leaderboard.csv"
    package("sweeps.leaderboard").write_leaderboard(path, records, goals("max"))
    rows = read_table(path)
    assert list(rows[0])[:7] == "rank number state val/acc model optimizer.lr note".split()
    assert list(rows[0])[7:] == "val/loss seconds epochs duration worker error folder".split()
    assert [row["rank"] for row in rows] == ["1", "2", ""]
    assert [row["number"] for row in rows] == ["1", "0", "2"]
    assert float(rows[1]["val/acc"]) == 0.1 + 0.2
    assert float(rows[1]["optimizer.lr"]) == 1e-5
    assert rows[1]["duration"] == "90.0"
    # Of the training alone: a metric like others, which may even be an objective.
    assert rows[0]["seconds"] == "9.5"
    assert rows[0]["note"] == "'a, b'"
    assert rows[0]["val/loss"] == "0.25"
    assert rows[2]["error"] == 'ValueError: "x",\ny'
    assert rows[2]["folder"] == "trials/0002"
    assert list(tmp_path.iterdir()) == [path]


def test_leaderboard_of_nothing_is_a_table(package: Part, goals: Any, tmp_path: Path) -> None:
    """A sweep that was stopped at once must end without a second error."""
    package("sweeps.leaderboard").write_leaderboard(tmp_path / "leaderboard.csv", [], goals("max"))
    assert read_table(tmp_path / "leaderboard.csv") == []


def test_a_front_shares_the_first_rank(
    package: Part, make: Any, goals: Any, tmp_path: Path
) -> None:
    """Ranks within a front would claim an order that is not there."""
    records = [make(0, 0.9, 10), make(1, 0.8, 5), make(2, 0.8, 20)]
    path = tmp_path / "leaderboard.csv"
    package("sweeps.leaderboard").write_leaderboard(path, records, goals("max", "min"))
    assert [row["rank"] for row in read_table(path)] == ["1", "1", "3"]


# The winner as an experiment

# Options of the command and parameters of the trial.
WINNERS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "default experiment": ([], {"optimizer.lr": 1e-5, "model": "mlp"}),
    "named experiment": (
        ["experiment=diabetes", "+trainer.foo=1", 'name="a: b # c"'],
        {"optimizer.lr": 0.1 + 0.2, "optimizer": "sgd"},
    ),
    "lists of choices": (
        ["experiment=kitchen_sink", "~scheduler", "callbacks=[default,ema]"],
        {"optimizer": "sgd", "seed": 3},
    ),
    "preset after the experiment": (
        ["debug=fast", "trainer.fast_dev_run=false", "trainer.max_epochs=77"],
        {"model.net.width": 64},
    ),
    "quoted choice and nested values": (
        ["debug='anomaly'", '++trainer.a.b={x: 1, y: [1, null, "1"]}', "++trainer.a.b={z: 2}"],
        {"experiment": "diabetes"},
    ),
    "no experiment": (["~experiment", "finders=[lr,batch_size]"], {"model.net.dropout": 0.0}),
    "a second model": (["+model@extra=cnn"], {"extra.net.width": 3}),
    "every kind of value": (
        [
            'name="1e-3"',
            "ckpt_path=' x'",
            '+objective.reference="${name}"',
            r"+objective.no_reference='\${name}'",
            "+objective.number=1_000",
            '+objective.text="1_000"',
            '+objective.word="null"',
            "+objective.nothing=null",
            '+objective.lines="a\n b: c"',
            "+objective.nan=nan",
            "+objective.low=-inf",
            "+objective.empty=''",
            "+objective.list=[]",
            "+objective.dict={}",
        ],
        {
            "+objective.yes": "true",
            "+objective.quoted": "'x y'",
            "+objective.small": 5e-324,
            "+objective.large": 10**20,
            "+objective.whole": 1.0,
        },
    ),
}


@pytest.fixture(scope="module")
def groups(project: BakedProject) -> set[str]:
    return {path.name for path in (project.root / "configs").iterdir() if path.is_dir()}


@pytest.fixture
def write_best(
    package: Part, make: Any, groups: set[str], tmp_path: Path
) -> Callable[[list[str], dict[str, Any]], Path]:
    """Writes the winner that a command with these parameters had."""

    def write(fixed: list[str], params: dict[str, Any]) -> Path:
        path = tmp_path / f"best_{len(list(tmp_path.iterdir()))}.yaml"
        trial = make(7, 0.9, params=params)
        package("sweeps.results").write_best(path, trial, fixed, groups, "Trial 7 of digits.")
        return path

    return write


@pytest.mark.parametrize("name", WINNERS)
def test_winner_composes_to_what_the_trial_had(
    package: Part, project: BakedProject, compose: Compose, write_best: Any, name: str
) -> None:
    """One value that differs, and the winner that is retrained is another model."""
    fixed, params = WINNERS[name]
    text = package("sweeps.space").text
    wanted = repr(compose(*fixed, *(f"{key}={text(value)}" for key, value in params.items())))
    best = write_best(fixed, params)
    # Not equal but the same to the letter: 1 is not 1.0, and NaN is NaN.
    assert repr(compose(f"experiment={best}")) == wanted
    kept = project.root / "configs" / "experiment" / "best.yaml"
    shutil.copy(best, kept)
    assert repr(compose("experiment=best")) == wanted
    kept.unlink()


@pytest.mark.parametrize("name", WINNERS)
def test_winner_of_a_winner(compose: Compose, write_best: Any, name: str) -> None:
    """A second sweep around the first one's winner must not need the first one's folder."""
    first = write_best(*WINNERS[name])
    wanted = repr(compose(f"experiment={first}", "optimizer=adam", "trainer.max_steps=7"))
    params = {"optimizer": "adam", "trainer.max_steps": 7}
    second = write_best([f"experiment={first}"], params)
    first.unlink()
    assert repr(compose(f"experiment={second}")) == wanted


@given(
    st.one_of(
        st.integers(),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_every_value_survives_the_file(package: Part, write_best: Any, value: Any) -> None:
    """A text that looks like a number, or a number that is rounded, would change the winner."""
    if isinstance(value, str):
        quoted = re.sub(r"\\*$", lambda end: 2 * end[0], re.sub(r"(\\*)'", r"\1\1\\'", value))
        written: Any = f"'{quoted}'"
    else:
        written = value
    path = write_best([], {"+name": written})
    config = package("experiment_files").read_experiment(str(path))
    assert repr(config._get_node("name")._value()) == repr(value)
    path.unlink()


def test_winner_reads_well(write_best: Any) -> None:
    """The file is kept, shared and changed: it says what was chosen and nothing else."""
    command = ["experiment=digits", "optimizer=sgd", "hydra.sweeper.n_trials=9"]
    best = write_best(command, {"model": "mlp", "optimizer.lr": 0.01})
    assert best.read_text("utf-8") == (
        "# @package _global_\n"
        "# Trial 7 of digits.\n"
        "defaults:\n"
        "- /experiment/digits\n"
        "- override /optimizer: sgd\n"
        "- override /model: mlp\n"
        "- _self_\n"
        "optimizer:\n"
        "  lr: 0.01\n"
    )


@pytest.mark.parametrize("option", ["~model.net.dropout", "trainer.plugins.0=x"])
def test_winner_says_what_a_file_cannot_hold(write_best: Any, option: str) -> None:
    """Left out in silence, the retrained model would be another one."""
    best = write_best([option], {"optimizer.lr": 0.01})
    # Quoted, so that it can be copied.
    words = f"# A file cannot contain {shlex.quote(option)}: add it to the command."
    assert words in best.read_text("utf-8")


# experiment=<path>


def test_path_means_the_same_from_any_folder(
    project: BakedProject, write_best: Any, compose: Compose
) -> None:
    """A relative path is relative to where the command was given."""
    best = write_best(["experiment=diabetes"], {"optimizer.lr": 0.5})
    folder = best.parent / "my folder"
    folder.mkdir()
    command = ("-X", "importtime", str(project.root / "train.py"), "--cfg", "job")
    done = run("python", *command, f"experiment=../{best.name}", cwd=folder)
    assert yaml.safe_load(done.stdout)["optimizer"]["lr"] == 0.5
    assert imported(done) & (HEAVY | {"plotly"}) == set()
    shutil.copy(best, folder)
    assert compose(f"experiment='{folder / best.name}'") == compose(f"experiment={best}")


BROKEN = {
    "missing.yaml": (None, "no file missing.yaml"),
    "cut.yaml": ("optimizer: {lr: [", "cut.yaml cannot be read as options in YAML"),
    "binary.yaml": ("\0", "binary.yaml cannot be read as options"),
    "list.yaml": ("- 1", "list.yaml is not an experiment"),
    "number.yaml": ("3", "number.yaml cannot be read as options"),
    "defaults.yaml": ("defaults: digits", "its defaults are not a list"),
    "choice.yaml": ("defaults:\n- override /model: cnnn", "'cnn'"),
}


def test_broken_file_is_answered_in_one_sentence(project: BakedProject) -> None:
    """A slip in a file that was edited by hand must not end in thirty lines of traceback."""
    for name, (content, _) in BROKEN.items():
        if content is not None:
            (project.root / name).write_text(content, "utf-8")
    answers = run_all(project, *(("train.py", f"experiment={name}") for name in BROKEN))
    for answer, (_, words) in zip(answers, BROKEN.values(), strict=True):
        assert answer.startswith("error: ")
        assert words in answer
        assert len(answer.splitlines()) == 1


def test_name_with_its_ending_is_still_a_name(compose: Compose) -> None:
    """Hydra takes `digits.yaml` for `digits`."""
    assert compose("experiment=digits.yaml") == compose("experiment=digits")


@pytest.mark.slow
def test_second_process_finds_the_file_too(demo: BakedProject, tmp_path: Path) -> None:
    """With DDP the command is given again, and has to find the same experiment."""
    (tmp_path / "best.yaml").write_text(
        "# @package _global_\ndefaults:\n- /experiment/digits\n- override /trainer: ddp_cpu\n"
        "- _self_\nmodel:\n  net:\n    width: 8\ntrainer:\n  max_epochs: 1\n"
    )
    train = (str(demo.root / "train.py"), "experiment=best.yaml", "hydra.run.dir=run")
    run("python", *train, cwd=tmp_path, check=True, **ON_CPU)
    manifest = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert manifest["status"] == "finished"
    assert manifest["config"]["model"]["net"]["width"] == 8
    assert manifest["config"]["trainer"]["devices"] == 2
