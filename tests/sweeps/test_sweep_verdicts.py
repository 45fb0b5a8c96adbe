"""What a sweep decides about its trials: resume, retry, prune or stop."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

Search = Callable[..., Any]


@pytest.fixture
def search(sweeps_package: Any, tmp_path: Path) -> Search:
    """Opens the study of a folder; again, as the next command would."""

    def open_search(n_trials: int = 5, max_retries: int = 1, **limits: float) -> Any:
        space, records = sweeps_package("space"), sweeps_package("types")
        journal, module = sweeps_package("storage"), sweeps_package("optuna_search")
        lr = space.Parameter("optimizer.lr", low=1e-4, high=0.1, log=True)
        objectives = [records.Objective("val/acc", "max")]
        lock = journal.FileLock(tmp_path / "study.lock")
        study = module.open_study(journal.open_journal(tmp_path, lock), "study", objectives)
        found = module.OptunaSearch(
            study, space.Space((lr,)), objectives, n_trials, max_retries, limits, lock
        )
        found.join({"name": "random"}, {"name": "none"}, 0)
        return found

    return open_search


@pytest.fixture
def outcome(sweeps_package: Any) -> Callable[..., Any]:
    """Makes the outcome of a trial."""
    records = sweeps_package("types")

    def make(state: str, acc: float | None = None, **more: Any) -> Any:
        metrics = {} if acc is None else {"val/acc": acc}
        return records.TrialOutcome(records.State(state), metrics | more.pop("metrics", {}), **more)

    return make


def test_stopped_trial_is_no_failure(search: Search, outcome: Any, sweeps_package: Any) -> None:
    """Whoever stops a sweep for the night must find its trials, and not among the failures."""
    first = search()
    trial = first.ask("0")
    first.report(trial.number, 1, 0.6)
    first.report(trial.number, 2, 0.7)
    decision = first.tell(trial.number, outcome("stopped", 0.7))
    assert decision is sweeps_package("types").Next.RESUME
    (record,) = first.records()
    assert (record.number, str(record.state), record.superseded) == (0, "stopped", False)
    assert (record.steps, record.metrics) == ({1: 0.6, 2: 0.7}, {"val/acc": 0.7})
    assert not first.is_finished()
    first.close()

    second = search()
    resumed = second.ask("0")
    assert (resumed.params, resumed.earlier) == (trial.params, (0,))
    second.tell(resumed.number, outcome("finished", 0.9))
    earlier, later = second.records()
    assert (str(earlier.state), earlier.superseded) == ("stopped", True)
    assert (str(later.state), later.superseded, later.values) == ("finished", False, (0.9,))


def test_trial_of_a_killed_command_is_no_failure(search: Search, sweeps_package: Any) -> None:
    """The power cut was not the trial's fault."""
    dead = search()
    trial = dead.ask("0")
    dead.close()
    alive = search()
    assert alive.ask("0").earlier == (trial.number,)
    assert str(alive.records()[0].state) == "stopped"


def test_decisions_do_not_depend_on_what_an_error_says(
    search: Search, outcome: Any, sweeps_package: Any
) -> None:
    """A text is for people: an empty one must not cost a trial its retry or its checkpoint."""
    decide = sweeps_package("types").Next
    for text in ("", "RuntimeError: boom", "goes on later"):
        found = search(n_trials=50)
        trial = found.ask("0")
        assert found.tell(trial.number, outcome("failed", error=text, retry=True)) is decide.RETRY
        again = found.ask("0")
        assert again.earlier == (trial.number,)
        # Once is enough, and another mistake is not retried at all.
        assert found.tell(again.number, outcome("failed", error=text, retry=True)) is decide.NOTHING
        other = found.ask("0")
        assert found.tell(other.number, outcome("failed", error=text)) is decide.NOTHING
        found.close()


def test_same_error_is_recognised_with_other_numbers(sweeps_package: Any) -> None:
    """A message that holds the learning rate would let all trials of a night fail."""
    kind_of = sweeps_package("notes").kind_of
    alike: list[tuple[str, dict[str, str]]] = [
        ("became NaN at batch 3 (learning rate 0.0123)", {}),
        ("became NaN at batch 12 (learning rate 4.5e-05)", {}),
        ("became inf at batch 7 (learning rate -1)", {}),
    ]
    assert len({kind_of(error, params) for error, params in alike}) == 1
    words = [(f"{name} does not fit", {"model": name}) for name in ("cnn", "mlp")]
    assert len({kind_of(error, params) for error, params in words}) == 1
    assert kind_of("no memory", {}) != kind_of("no disk", {})
    # A value that is part of another word is none.
    assert kind_of("mlp_regressor is broken", {"model": "mlp"}) == "mlp_regressor is broken"


@pytest.mark.parametrize(("has_finished", "enough"), [(False, 3), (True, 10)])
def test_trials_that_fail_alike_end_the_sweep(
    sweeps_package: Any, outcome: Any, has_finished: bool, enough: int
) -> None:
    """Three in a row where none ever finished, ten otherwise: both are documented."""
    failures = sweeps_package("notes").Failures()
    if has_finished:
        failures.note(outcome("finished", 0.5), {})
    for number in range(enough):
        assert not failures.is_hopeless
        failures.note(outcome("failed", error=f"NaN at learning rate {0.1 / (number + 1)}"), {})
        # A trial that is stopped in between says nothing about the others.
        failures.note(outcome("stopped"), {})
    assert failures.is_hopeless
    failures.note(outcome("finished", 0.5), {})
    assert not failures.is_hopeless


@pytest.fixture
def record(sweeps_package: Any) -> Callable[..., Any]:
    """Makes the record of a trial."""
    records = sweeps_package("types")

    def make(number: int, state: str, *values: float, **more: Any) -> Any:
        return records.TrialRecord(
            number, records.State(state), more.pop("params", {}), values, **more
        )

    return make


@pytest.fixture
def goals(sweeps_package: Any) -> list[Any]:
    return [sweeps_package("types").Objective("val/acc", "max")]


def test_missing_winner_is_explained(sweeps_package: Any, record: Any, goals: list[Any]) -> None:
    """A sweep of a night without a winner must say what to change."""
    why = sweeps_package("notes").why_no_winner
    small = {"parameters": 1000.0}
    over = [
        record(0, "finished", 0.9, metrics={"parameters": 5386}, constraints={"parameters": 4386}),
        record(1, "finished", 0.8, metrics={"parameters": 1234}, constraints={"parameters": 234}),
    ]
    assert why(over, goals, small) == (
        "There is no winner: hydra.sweeper.limits allows parameters up to 1000, and the lowest "
        "value is 1234 (trial 1)."
    )
    failed = [record(n, "failed", error=f"NaN at lr 0.{n}") for n in range(3)]
    assert why(failed, goals, {}) == "There is no winner: all 3 trials failed with: NaN at lr 0.0"
    failed.append(record(3, "failed", error="boom"))
    assert "all 4 trials failed, 3 of them with: NaN at lr 0.0" in str(why(failed, goals, {}))
    pruned = [record(4, "pruned"), *failed]
    assert "1 trials were pruned and 4 failed" in str(why(pruned, goals, {}))
    assert "no trial has finished yet" in str(why([record(5, "stopped")], goals, {}))
    paused = [record(n, "paused", steps=dict.fromkeys(range(n), 0.1 * n)) for n in (7, 9, 8)]
    # Of the highest rung.
    assert why(paused, goals, {}) == (
        "There is no winner: no trial has finished yet; trial 9, which is paused, leads with 0.9."
    )
    assert why([*over, record(6, "finished", 0.1)], goals, small) is None


def test_limits_that_exclude_each_other_are_explained(
    sweeps_package: Any, record: Any, goals: list[Any]
) -> None:
    """Each limit is kept by one trial, and both by none."""
    limits = {"parameters": 100.0, "val/loss": 1.0}
    trials = [
        record(
            n,
            "finished",
            0.9,
            metrics={"parameters": size, "val/loss": loss},
            constraints={"parameters": size - 100, "val/loss": loss - 1},
        )
        for n, (size, loss) in enumerate([(90, 3.0), (110, 0.5)])
    ]
    sentence = str(sweeps_package("notes").why_no_winner(trials, goals, limits))
    assert "trial 1 comes closest: parameters is 110 and the limit 100" in sentence


def test_unmeasured_limit_is_not_kept(search: Search, outcome: Any) -> None:
    """A model whose latency is NaN must not win against a limit on latency."""
    found = search(latency=5.0)
    for latency in (float("nan"), 4.0, 6.0, None):
        metrics = {} if latency is None else {"latency": latency}
        found.tell(found.ask("0").number, outcome("finished", 0.5, metrics=metrics))
    assert [record.is_feasible for record in found.records()] == [False, True, False, False]


def test_stopped_trials_are_shown_as_such(
    sweeps_package: Any, record: Any, goals: list[Any], tmp_path: Path
) -> None:
    """The best trial so far may be a stopped one: it is not the winner, but it is mentioned."""
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    end = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
    times = {"started": begin, "ended": end, "worker": "0"}
    records = [
        record(0, "finished", 0.5, steps={1: 0.4, 2: 0.5}, **times),
        record(1, "stopped", steps={1: 0.95, 2: 0.9}, **times),
        record(2, "failed", error="boom", **times),
    ]
    (row,) = [
        r for r in sweeps_package("leaderboard").leaderboard(records, goals) if r["number"] == 1
    ]
    assert (row["rank"], row["state"], row["val/acc"]) == (None, "stopped", 0.95)
    (remark,) = sweeps_package("notes").notes(records, goals)
    assert "trial 1, val/acc 0.95 so far" in remark
    page = tmp_path / "report.html"
    space = sweeps_package("space").Space(())
    sweeps_package("report_page").write_report(
        page, "study", records, goals, space, {}, remarks=[remark]
    )
    text = page.read_text("utf-8")
    assert "1 finished, 1 stopped, 1 failed" in text
    assert "<h2>Stopped</h2>" in text
    assert remark in text
    colours = sweeps_package("figures").COLOURS
    states = sweeps_package("types").State
    assert colours[states.STOPPED] != colours[states.FAILED]
    # The bar of the timeline, and the learning curve.
    assert text.count(f'"color":"{colours[states.STOPPED]}"') == 2


def test_options_without_effect_are_named(
    sweeps_package: Any, record: Any, goals: list[Any]
) -> None:
    """A best of four equals is a coincidence, and its options mean nothing."""
    notes = sweeps_package("notes").notes

    def trials(*rows: tuple[float, float, float, float]) -> list[Any]:
        return [
            record(
                number,
                "finished",
                acc,
                params={"optimizer.lr": lr, "model.net.width": width},
                metrics={"val/acc": acc, "val/loss": loss, "seconds": float(number)},
            )
            for number, (lr, width, acc, loss) in enumerate(rows)
        ]

    (equal,) = notes(trials((0.1, 8, 0.5, 1.0), (0.2, 16, 0.5, 1.0)), goals)
    assert "optimizer.lr, model.net.width made no difference to val/acc" in equal
    assert "check that something reads" in equal
    (tied,) = notes(trials((0.1, 8, 0.5, 1.0), (0.2, 8, 0.5, 2.0)), goals)
    assert "optimizer.lr made no difference to val/acc; other metrics differ" in tied
    grid = trials((0.1, 8, 0.5, 1.0), (0.2, 8, 0.5, 1.0), (0.1, 16, 0.6, 0.9), (0.2, 16, 0.6, 0.9))
    (one,) = notes(grid, goals)
    assert one.startswith("optimizer.lr made no difference")
    assert notes(trials((0.1, 8, 0.5, 1.0), (0.2, 8, 0.6, 0.9)), goals) == []
    # The same point twice, as two seeds of nothing, or a single trial, proves nothing.
    assert notes(trials((0.1, 8, 0.5, 1.0), (0.1, 8, 0.5, 1.0)), goals) == []
    assert notes(trials((0.1, 8, 0.5, 1.0)), goals) == []
    # The two best of many are equal, and the others were paused.
    tied = trials((0.1, 8, 0.5, 1.0), (0.2, 8, 0.5, 2.0))
    for count in (5, 10):
        paused = [
            record(n, "paused", params={"optimizer.lr": 0.1 * n}, steps={1: 0.1 * n})
            for n in range(2, 2 + count)
        ]
        assert notes([*tied, *paused], goals) == []
