"""The report of a sweep: a page that shows all of it and needs nothing else."""

import importlib
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Part = Callable[[str], ModuleType]
Compose = Callable[..., Any]

HOSTILE = """</script><script>alert(1)</script>"'<b>&amp;"""


class Page(HTMLParser):
    """A report as a browser reads it: its tags, its texts, and the figures it draws."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.size = path.stat().st_size
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.scripts: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.figures: list[dict[str, Any]] = [
            json.loads(figure)
            for figure in re.findall(r'^draw\("figure-\d+", (.*)\);$', "".join(self.scripts), re.M)
        ]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Keep a text, or a script."""
        (self.scripts if self.tags and self.tags[-1][0] == "script" else self.texts).append(data)

    @property
    def text(self) -> str:
        """All that is to be read."""
        return " ".join(self.texts)


@pytest.fixture
def report(package: Part, goals: Any, tmp_path: Path) -> Callable[..., Page]:
    """Writes a report and reads it."""

    def write(
        records: Sequence[Any],
        objectives: Sequence[Any] | None = None,
        parameters: Sequence[Any] = (),
        facts: dict[str, str] | None = None,
        title: str = "digits-3f2a91",
    ) -> Page:
        path = tmp_path / "report.html"
        package("sweeps.report_page").write_report(
            path,
            title,
            records,
            objectives or goals("max"),
            package("sweeps.space").Space(tuple(parameters)),
            facts or {},
        )
        assert list(tmp_path.iterdir()) == [path]
        return Page(path)

    return write


@pytest.fixture(scope="module")
def parameters(package: Part) -> list[Any]:
    """A group, a logarithmic number, a choice of numbers, and one that depends on the group."""
    make = package("sweeps.space").Parameter
    when = (("model", ("mlp",)),)
    return [
        make("model", choices=("cnn", "mlp"), is_group=True),
        make("optimizer.lr", low=1e-4, high=1e-1, log=True),
        make("data.batch_size", choices=(32, 64, 128)),
        make("model.net.width", low=64, high=512, step=64, is_integer=True, when=when),
    ]


@pytest.fixture(scope="module")
def sweep(make: Any) -> Callable[..., list[Any]]:
    """Makes the records of a sweep with trials of all kinds."""

    def make_sweep(count: int, objectives: int = 1) -> list[Any]:
        chance = random.Random(0)
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        records = []
        for number in range(count):
            params = {
                "model": chance.choice(["cnn", "mlp"]),
                "optimizer.lr": 10 ** chance.uniform(-4, -1),
                "data.batch_size": chance.choice([32, 64, 128]),
            }
            if params["model"] == "mlp":
                params["model.net.width"] = chance.choice([64, 128, 256])
            state = ("finished", "finished", "pruned", "failed", "finished")[number % 5]
            epochs = 8 if state == "finished" else 3
            values = [chance.random() for _ in range(objectives)]
            records.append(
                make(
                    number,
                    *(values if state == "finished" else ()),
                    state=state,
                    params=params,
                    steps={epoch: values[0] * epoch / 8 for epoch in range(1, epochs + 1)},
                    started=begin + timedelta(minutes=number // 2),
                    ended=begin + timedelta(minutes=number // 2, seconds=45),
                    worker=str(number % 2),
                    error="OutOfMemoryError: 2 GiB" if state == "failed" else "",
                    constraints={"seconds": 1.0} if number == 4 else {},
                )
            )
        return records

    return make_sweep


ALL_FIGURES = [
    "History of val/acc",
    "What matters for val/acc",
    "val/acc by parameter",
    "Learning curves",
    "All parameters together",
    "Workers",
]


def test_report_shows_everything(report: Any, sweep: Any, parameters: list[Any]) -> None:
    """A figure that is silently missing is one that nobody looks for."""
    facts = {"Train the best again": "python train.py experiment=best.yaml"}
    page = report(sweep(40), None, parameters, facts)
    assert [title for title in ALL_FIGURES if title not in page.texts] == []
    assert len(page.figures) == len(ALL_FIGURES)
    assert "Not drawn" not in page.texts
    assert facts["Train the best again"] in page.texts
    assert "24 finished, 8 pruned, 8 failed" in page.text
    assert page.texts.count("OutOfMemoryError: 2 GiB") == 8


def test_report_opens_without_a_network(report: Any, sweep: Any, parameters: list[Any]) -> None:
    """Opened on a train or years later, the figures must be there."""
    page = report(sweep(20), None, parameters)
    for tag, attributes in page.tags:
        assert not {"src", "srcset"} & set(attributes), tag
        assert (attributes.get("href") or "data:").startswith("data:"), tag
    plotly = importlib.import_module("plotly.offline").get_plotlyjs()
    rest = "".join(page.scripts).replace(plotly, "")
    assert len(rest) < 200_000
    assert "http" not in rest


def test_report_of_500_trials_can_be_sent(report: Any, sweep: Any, parameters: list[Any]) -> None:
    """A page of 50 MB is neither mailed nor opened."""
    assert report(sweep(500), None, parameters).size < 6_000_000


def test_user_texts_stay_texts(
    package: Part, report: Any, make: Any, parameters: list[Any]
) -> None:
    """A parameter's value or an error from elsewhere must not run in the reader's browser."""
    objective = package("sweeps.types").Objective(f"val/{HOSTILE}", "max")
    more: dict[str, Any] = {"params": {HOSTILE: HOSTILE, "optimizer.lr": 0.1}, "worker": HOSTILE}
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    more |= {"started": begin, "ended": begin, "steps": {1: 0.1, 2: 0.2}}
    records = [make(0, 0.1, **more), make(1, 0.2, **more), make(2, 0.3, **more)]
    records.append(make(3, state="failed", error=HOSTILE))
    page = report(records, [objective], parameters, {HOSTILE: HOSTILE}, title=HOSTILE)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "alert(1)" not in page.scripts
    assert page.text.count(HOSTILE) > 5
    # Within figures plotly reads tags: names must come as entities.
    assert len(page.figures) == len(ALL_FIGURES)
    assert "</script>" not in json.dumps(page.figures)


def test_report_is_always_written(
    package: Part, report: Any, make: Any, sweep: Any, goals: Any
) -> None:
    """A night's sweep must not end with an error because of a figure."""
    parameter = package("sweeps.space").Parameter
    lr = {"optimizer.lr": 0.1}
    cases = [
        [],
        [make(0, state="waiting", params=lr), make(1, state="running", params=lr)],
        [make(0, state="failed", error="boom")],
        [make(0, 0.5, params=lr)],
        [make(0, 0.5), make(1, 0.6)],
        [make(number, 0.5, params=lr) for number in range(5)],
        [make(0, math.inf, params=lr), make(1, -math.inf, params=lr), make(2, 0.1, params=lr)],
        [make(n, 0.1 * n, params=lr, steps={1: math.nan, 2: math.inf}) for n in range(4)],
        # Outside of the space, text among numbers, and of no known parameter.
        [make(n, 0.1 * n, params={"optimizer.lr": v}) for n, v in enumerate([0.0, 5, "null"])],
        [make(n, 0.1 * n, params={"optimizer.lr": v, "x": v}) for n, v in enumerate([-1.0, 9])],
        [make(0, 0.5, params=lr, constraints={"seconds": 1.0})] * 2,
    ]
    for records in cases:
        page = report(records, None, [parameter("optimizer.lr", low=1e-4, high=0.1, log=True)])
        assert "digits-3f2a91" in page.texts
        assert "Leaderboard" in page.texts
    assert "Not drawn" in report([]).texts
    assert report([]).size < 10_000
    page = report(sweep(20, objectives=4), goals("max", "min", "min", "min"))
    assert "Pareto front" in page.texts[page.texts.index("Not drawn") :]


def test_a_figure_that_fails_is_left_out(
    report: Any, sweep: Any, parameters: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next release of Optuna or plotly must not cost anybody the report."""

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("gone")

    monkeypatch.setattr("optuna.visualization.plot_slice", fail)
    page = report(sweep(20), None, parameters)
    assert len(page.figures) == len(ALL_FIGURES) - 1
    assert "val/acc by parameter" in page.texts[page.texts.index("Not drawn") :]


def test_figures_name_the_right_trials(report: Any, sweep: Any, parameters: list[Any]) -> None:
    """The number beside a point leads to a folder, and it must be that trial's."""
    records = sweep(20)
    history = report(records, None, parameters).figures[0]["data"][0]
    drawn = {x: y for x, y in zip(history["x"], history["y"], strict=True) if y is not None}
    kept = [record for record in records if record.values and record.is_feasible]
    assert drawn == {record.number: record.values[0] for record in kept}


def test_figures_compare_paused_trials_at_one_rung(
    package: Part, report: Any, make: Any, parameters: list[Any], goals: Any
) -> None:
    """With two finished trials and twenty paused ones, nothing could be learnt from the figures.

    A mixture of values after three and after eight epochs would show how long trials were trained.
    """
    types = package("sweeps.types")

    def trial(number: int, length: int, state: str = "paused", **more: Any) -> Any:
        steps = {epoch: 0.1 * number + 0.01 * epoch for epoch in range(1, length + 1)}
        values = (steps[length],) if state == "finished" else ()
        params = {"model": "cnn", "optimizer.lr": 10 ** (-4 + number / 5), "data.batch_size": 32}
        return make(number, *values, state=state, params=params, steps=steps, **more)

    # Twelve have reached the third epoch, four the sixth; one of these is a former attempt.
    records = [trial(number, 3) for number in range(8)]
    records += [trial(8, 6), trial(9, 6), trial(10, 8, "finished"), trial(11, 2, "finished")]
    records += [trial(12, 6, superseded=True), trial(13, 3, "failed"), trial(14, 1, "stopped")]
    alike, rung = package("sweeps.leaderboard").comparable(records, goals("max"))
    assert rung == 3
    wanted = {n: (pytest.approx(0.1 * n + 0.01 * (2 if n == 11 else 3)),) for n in range(12)}
    assert {record.number: record.values for record in alike} == wanted
    assert {record.state for record in alike} == {types.State.FINISHED}
    page = report(records, None, parameters)
    assert "val/acc by parameter after 3 epochs" in page.texts
    assert "What matters for val/acc after 3 epochs" in page.texts
    # With few of them, only complete results are compared.
    few = [records[0], records[10], records[11]]
    done, rung = package("sweeps.leaderboard").comparable(few, goals("max"))
    assert ([record.number for record in done], rung) == ([10, 11], None)


def test_pruned_curves_are_told_apart(report: Any, sweep: Any, parameters: list[Any]) -> None:
    """Whether pruning was too eager shows only where pruned curves can be seen as such."""
    records = sweep(20)
    curves = {
        trace.get("name"): trace for trace in report(records, None, parameters).figures[3]["data"]
    }
    assert set(curves) >= {"finished", "pruned", "failed", "best"}
    pruned = {record.number for record in records if str(record.state) == "pruned"}
    assert set(curves["pruned"]["customdata"]) - {None} == pruned
    assert curves["pruned"]["line"]["color"] != curves["finished"]["line"]["color"]


def test_timeline_has_a_lane_for_each_worker(
    report: Any, sweep: Any, parameters: list[Any]
) -> None:
    """Idle workers are what a sweep's owner pays for."""
    records = sweep(10)
    workers = report(records, None, parameters).figures[-1]
    bars = {
        number: (worker, start, length)
        for trace in workers["data"]
        for number, worker, start, length in zip(
            trace["customdata"], trace["y"], trace["base"], trace["x"], strict=True
        )
    }
    assert bars == {n: (str(n % 2), n // 2, 0.75) for n in range(10)}
    assert workers["layout"]["yaxis"]["categoryarray"] == ["1", "0"]


def test_several_objectives_have_a_front(
    package: Part, report: Any, sweep: Any, goals: Any, parameters: list[Any]
) -> None:
    """With several objectives the trade-off is the result."""
    records, objectives = sweep(40, objectives=2), goals("max", "min")
    page = report(records, objectives, parameters)
    assert "Pareto front" in page.texts
    assert "History of parameters" in page.texts
    front = package("sweeps.leaderboard").best_trials(records, objectives)
    drawn = page.figures[0]["data"][-1]
    assert sorted(zip(drawn["x"], drawn["y"], strict=True)) == sorted(r.values for r in front)
    assert f"{len(front)} trials form the front" in page.text


def test_report_needs_no_word_on_the_console(
    report: Any, sweep: Any, parameters: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """Optuna tells of every study it makes; a sweep's last lines are its own."""
    report(sweep(20), None, parameters)
    report(sweep(1), None, parameters)
    assert capfd.readouterr() == ("", "")
