"""Points to try first: none of them is left out in silence."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..support.modules import project_module

HEADER = "optimizer.lr,model,depth"
ROW = "0.01,mlp,2"
POINT = {"optimizer.lr": 0.01, "model": "mlp", "depth": 2}


@pytest.fixture(scope="module")
def space(sweeps_package: Any) -> Any:
    """A rate, a choice, steps, a number of layers and an option that exists with one choice."""
    make = sweeps_package("space")
    return make.Space(
        (
            make.Parameter("optimizer.lr", low=1e-4, high=0.1, log=True),
            make.Parameter("model", choices=("mlp", "cnn", "null", 1, 1.0, "true", "'1'")),
            make.Parameter("depth", low=1, high=4, step=1.0, is_integer=True),
            make.Parameter("batch", low=32, high=128, step=32, is_integer=True),
            make.Parameter("share", low=0.1, high=0.5, step=0.1),
            make.Parameter("+momentum", low=0.0, high=0.9, when=(("model", ("cnn",)),)),
        )
    )


@pytest.fixture
def read(sweeps_package: Any, space: Any, tmp_path: Path) -> Callable[..., Any]:
    """Reads points; a text is the content of a table, bytes are its file."""

    def points(source: Any) -> Any:
        if isinstance(source, Path):
            source = str(source)
        elif isinstance(source, str | bytes):
            table = tmp_path / "known.csv"
            table.write_bytes(source.encode() if isinstance(source, str) else source)
            source = str(table)
        return sweeps_package("enqueue").read_points(source, space)

    return points


@pytest.fixture(scope="module")
def user_error(sweeps_package: Any) -> Any:
    sweeps_package("enqueue")
    return project_module("demo", "errors").UserError


TABLES = {
    "plain": f"{HEADER}\n{ROW}\n",
    "byte-order mark": f"\ufeff{HEADER}\n{ROW}\n",
    "spaces": "optimizer.lr , model, depth\n 0.01 , mlp ,2 \n",
    "quotes and lines of Windows": '"optimizer.lr","model","depth"\r\n"0.01","mlp","2"\r\n',
    "other columns and empty rows": "note,optimizer.lr,model,depth\n,,,\ngood,1e-2,'mlp',2.0\n\n",
    "empty last column": f"{HEADER},\n{ROW},\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_table_of_any_editor_is_read(read: Any, name: str) -> None:
    """A byte-order mark of Excel is no reason to search for what is known."""
    assert read(TABLES[name]) == [POINT]


def test_cells_mean_what_they_mean_on_a_command_line(read: Any) -> None:
    """1, 1.0, True and '1' are four choices."""
    table = 'model\n1\n1.0\nTrue\ntrue\n\'1\'\n"""1"""\nnull\n'
    expected = [1, 1.0, "true", "true", "'1'", "'1'", "null"]
    assert [repr(point["model"]) for point in read(table)] == [repr(value) for value in expected]
    listed = [{"model": value} for value in (1, 1.0, True, "1", None)]
    expected = [1, 1.0, "true", "'1'", "null"]
    assert [repr(point["model"]) for point in read(listed)] == [repr(value) for value in expected]


WRONG: dict[str, tuple[Any, str]] = {
    "misspelt": (
        "optimizer.lrr,model\n0.01,mlp\n",
        "'optimizer.lrr', which does not vary; did you",
    ),
    "last word": ("lr,model\n0.01,mlp\n", "did you mean 'optimizer.lr'?"),
    "capitals": ("Optimizer.LR,model\n0.01,mlp\n", "did you mean 'optimizer.lr'?"),
    "without its plus": ("model,momentum\ncnn,0.5\n", r"did you mean '\+momentum'?"),
    "no column": (
        "rate,kind\n0.01,mlp\n",
        "its columns are rate, kind, and the parameters are optimizer",
    ),
    "twice": ("model,model\nmlp,cnn\n", "two columns 'model'"),
    "no rows": (f"{HEADER}\n", "has no rows"),
    "more cells": (f"{HEADER}\n{ROW},7\n", "line 2 has more cells than columns"),
    "UTF-16": (f"{HEADER}\n{ROW}\n".encode("utf-16"), "save it as CSV in UTF-8"),
    "zero byte": (f"{HEADER}\n0.01,m\0lp,2\n", "is not a choice|save it as CSV"),
    "open quote": (f'{HEADER}\n0.01,"mlp,2\n', "save it as CSV in UTF-8"),
    "outside": (f"{HEADER}\n{ROW}\n0.2,mlp,2\n", "line 3: optimizer.lr=0.2 is outside"),
    "not a number": (f"{HEADER}\nfast,mlp,2\n", "optimizer.lr must be a number, not 'fast'"),
    "nan": (f"{HEADER}\nnan,mlp,2\n", "optimizer.lr must be a number, not 'nan'"),
    "no choice": (f"{HEADER}\n0.01,mlpp,2\n", "model=mlpp is not a choice; did you mean 'mlp'?"),
    "other type": ("model\n1.00001\n", "model=1.00001 is not a choice"),
    "half a layer": (f"{HEADER}\n0.01,mlp,2.5\n", "depth must be an integer, not 2.5"),
    "between steps": ("batch\n40\n", r"not a step of range\(32,160,32\); the nearest is 32"),
    "between fractions": ("share\n0.25\n", "share=0.25 is not a step"),
    "without its condition": ("model,+momentum\nmlp,0.5\n", "exists only with model=cnn, not with"),
    "list: key": ([{"optimizer.lrr": 0.01}], "optimizer.lrr does not vary; did you mean"),
    "list: boolean": ([{"optimizer.lr": True}], "optimizer.lr must be a number, not True"),
    "list: none": ([{"optimizer.lr": 0.01}, 3], "must be a list of configurations"),
    "mapping": ({"optimizer.lr": 0.01}, "must be a list of configurations"),
    "number": (5, "must be a list of configurations, the path of a CSV file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_means_nothing_is_refused(read: Any, user_error: Any, name: str) -> None:
    """Ignored, it would cost the trials that were to be saved."""
    source, words = WRONG[name]
    with pytest.raises(user_error, match=words) as told:
        read(source)
    assert "\n" not in str(told.value)


def test_steps_survive_rounding(read: Any) -> None:
    """0.1 + 2 * 0.1 is not 0.3, as every table writes it."""
    assert read("share,batch\n0.3,96\n0.30000000000000004,128\n") == [
        {"share": 0.3, "batch": 96},
        {"share": 0.3, "batch": 128},
    ]


def test_best_of_an_earlier_sweep_come_first(read: Any, user_error: Any, tmp_path: Path) -> None:
    """Trials that failed or were pruned are not its best; few may finish while others pause."""
    folder = tmp_path / "earlier"
    folder.mkdir()
    rows = [
        ["rank", "number", "state", "val/loss", "optimizer.lr", "seconds"],
        *([str(n), str(n), "finished", str(n / 10), str(n / 200), "1"] for n in range(1, 13)),
        ["", "13", "paused", "1.3", "0.08", "1"],
        ["", "14", "pruned", "", "0.09", "1"],
    ]
    for count, expected, paused in ((14, 10, []), (4, 3, [0.08])):
        with (folder / "leaderboard.csv").open("w", newline="") as file:
            csv.writer(file).writerows([*rows[:count], *rows[-2:]])
        best = [*(n / 200 for n in range(1, expected + 1)), *paused]
        assert read(folder) == [{"optimizer.lr": rate} for rate in best]
    with (folder / "leaderboard.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], rows[-1]])
    with pytest.raises(user_error, match="has no finished trial"):
        read(folder)
    with pytest.raises(user_error, match=r"there is no .*leaderboard\.csv"):
        read(tmp_path)


def test_grid_begins_with_the_points_to_try_first(sweeps_package: Any) -> None:
    """A grid may be stopped before its end."""
    make, enqueue = sweeps_package("space"), sweeps_package("enqueue")
    space = make.Space(
        (make.Parameter("x", choices=(1, 1.0)), make.Parameter("y", choices=("a", "b", "c")))
    )
    first = enqueue.read_points([{"x": 1.0, "y": "b"}, {"y": "c"}], space)
    points = [(repr(p["x"]), p["y"]) for p in enqueue.put_first(space.grid(), first)]
    assert points == [
        ("1.0", "b"), ("1", "c"), ("1.0", "c"), ("1", "a"), ("1", "b"), ("1.0", "a")
    ]  # fmt: skip


def test_added_points_are_tried_too(sweeps_package: Any, space: Any, tmp_path: Path) -> None:
    """A table that has grown since the first command is not the table of the first command."""
    import optuna

    search, journal, records = map(sweeps_package, ("optuna_search", "storage", "types"))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    rates = [0.01, 0.02, 0.03, 0.04]
    tried: list[float] = []
    for count, total, left in ((2, 2, 0), (2, 2, 0), (4, 3, 1), (4, 4, 0)):
        lock = journal.FileLock(tmp_path / "lock")
        goal = [records.Objective("loss", "min")]
        searching = search.OptunaSearch(study, space, goal, total, 0, {}, lock)
        searching.join({"name": "random"}, {"name": "none"}, 0)
        points = [{"optimizer.lr": rate} for rate in rates[:count]]
        assert searching.lay_out(points) == left
        while (trial := searching.ask("0")) is not None:
            tried.append(trial.params["optimizer.lr"])
            outcome = records.TrialOutcome(records.State.FINISHED, {"loss": 1.0})
            searching.tell(trial.number, outcome)
    assert tried == rates
