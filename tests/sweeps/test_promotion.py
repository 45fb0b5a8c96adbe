"""Pause and promote: which trials pause, which are resumed, and what the sampler learns from.

Most tests run the search itself with scripted values and simulated workers, which report in turn.
"""

import math
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..support.promotion import (
    EPOCHS,
    FIRST,
    LR,
    RUNGS,
    STARTUP,
    Asha,
    CommandKilledError,
    Job,
    accuracy,
    best_until,
    configurations,
)
from ..support.template_package import Part

Open = Callable[..., Any]


@pytest.mark.parametrize(
    ("n_trials", "workers", "mode"),
    [(1, 1, "max"), (2, 2, "min"), (4, 1, "min"), (11, 2, "max"), (60, 1, "max"), (60, 7, "min")],
)
def test_decisions_are_those_of_asha(
    open_search: Open, simulate: Any, n_trials: int, workers: int, mode: str
) -> None:
    """A configuration that should have been promoted is lost, and nobody would notice."""
    search = open_search(n_trials, mode=mode)
    simulation = simulate(sign=1 if mode == "max" else -1)
    simulation.run([search], workers)
    expected = Asha(iter(configurations(search)), {})
    expected.run(workers)
    assert simulation.legs == expected.legs


def test_trial_that_stops_early_counts_at_all_rungs(open_search: Open, simulate: Any) -> None:
    """Early stopping means that a training has found its best value, not that it is behind."""
    stops = dict.fromkeys(first_configurations(open_search, 12)[::3], 1)
    search = open_search(12)
    simulation = simulate(stops_early=stops)
    simulation.run([search])
    expected = Asha(iter(configurations(search)), stops)
    expected.run(1)
    assert simulation.legs == expected.legs
    states = Counter(str(record.state) for record in search.records() if not record.superseded)
    assert states["finished"] >= len(stops) == 4


def first_configurations(open_search: Open, count: int) -> list[float]:
    """What the sampler proposes with the seed of all searches here."""
    search = open_search(count, folder="beforehand")
    return [search.ask("0").params[LR] for _ in range(count)]


def test_each_configuration_counts_once(
    open_search: Open, simulate: Any, package: Part, tmp_path: Path
) -> None:
    """A table with three rows of one model, or a budget that promotions use up."""
    search = open_search(20)
    simulation = simulate()
    simulation.run([search], workers=3)
    records = search.records()
    shown = [record for record in records if not record.superseded]
    assert len({record.params[LR] for record in shown}) == len(shown) == 20
    assert len(records) > 20
    assert max(simulation.trained.values()) == 1
    lengths = Counter(max(record.steps) for record in shown)
    assert set(lengths) <= set(RUNGS)
    assert lengths[FIRST] > lengths[6] > 0
    for record in shown:
        assert str(record.state) == ("finished" if max(record.steps) == EPOCHS else "paused")
        assert sorted(record.steps) == list(range(1, max(record.steps) + 1))
    rows = list(package("sweeps.leaderboard").leaderboard(records, search.objectives))
    assert [row["number"] for row in rows if row["rank"]] == [
        row["number"] for row in rows if row["state"] == "finished"
    ]
    keys = [(-row["epochs"], -row["val/acc"]) for row in rows if row["state"] == "paused"]
    assert keys == sorted(keys)
    page = tmp_path / "report.html"
    package("sweeps.report_page").write_report(
        page, "study", records, search.objectives, search.space, {}
    )
    text = page.read_text("utf-8")
    assert "<h2>Paused</h2>" in text
    assert f"{len(keys)} paused" in text
    assert package("sweeps.notes").progress_of(records, 20).startswith("20 of 20 trials have ended")


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_killed_command_loses_nothing(open_search: Open, simulate: Any, sampler: str) -> None:
    """Killed after any report, a sweep trains nothing twice and makes the same decisions."""
    whole, search = simulate(), open_search(16, sampler, folder="whole")
    whole.run([search])
    reports, kills = sum(whole.trained.values()), 0
    killed = simulate(reports_until_kill=1)
    while True:
        search = open_search(16, sampler)
        try:
            killed.run([search])
            break
        except CommandKilledError:
            kills += 1
            killed.reports_until_kill = 1 + kills % 4
        finally:
            search.close()
    assert kills > reports / 5
    assert max(killed.trained.values()) == 1
    assert len(configurations(search)) == 16
    if sampler == "tpe":
        assert killed.trained == whole.trained
    assert not [t for t in search.study.trials if t.state.name in ("RUNNING", "WAITING")]


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_seed_repeats_a_sweep(open_search: Open, simulate: Any, sampler: str) -> None:
    """With one worker and a seed, a table can be reproduced."""
    legs = []
    for folder in ("one", "two"):
        simulation = simulate()
        simulation.run([open_search(14, sampler, folder=folder)])
        legs.append(simulation.legs)
    assert legs[0] == legs[1]


def test_commands_share_a_study(open_search: Open, simulate: Any) -> None:
    """Two commands decide as one with as many workers, and promote what the other has paused."""
    searches = [open_search(24) for _ in range(2)]
    simulation = simulate()
    simulation.run(searches, workers=2)
    assert max(simulation.trained.values()) == 1
    assert len(configurations(searches[0])) == 24
    expected = Asha(iter(configurations(searches[0])), {})
    expected.run(4)
    assert simulation.legs == expected.legs
    holders = {t.number: t.user_attrs["holder"] for t in searches[0].study.trials}
    trials = searches[0].study.trials
    assert any(
        holders[t.number] != holders[n] for t in trials for n in t.user_attrs.get("earlier", ())
    )


def train(simulation: Any, search: Any, job: Job) -> None:
    """Train a trial until it pauses or ends."""
    while not simulation.step(search, job):
        pass


def test_two_machines_do_not_promote_the_same_trial(open_search: Open, simulate: Any) -> None:
    """Without a shared lock, two commands may decide at once: the second one withdraws."""
    ours, theirs = (open_search(24) for _ in range(2))
    simulation, choose = simulate(), ours._promotable
    jobs: list[Job] = []

    def choose_too_late(*reporting: Any, **keywords: Any) -> int | None:
        """Between this command's decision and its promotion, the other one does the same."""
        chosen: int | None = choose(*reporting, **keywords)
        if chosen is not None and not reporting and not keywords and not jobs:
            jobs.append(simulation.start(theirs, theirs.ask("theirs")))
        return chosen

    ours._promotable = choose_too_late
    while (trial := ours.ask("ours")) is not None:
        train(simulation, ours, simulation.start(ours, trial))
    (job,) = jobs
    withdrawn = [t for t in ours.study.trials if t.user_attrs.get("withdrawn")]
    assert [t.user_attrs["earlier"] for t in withdrawn] == [list(job.trial.earlier)]
    assert not withdrawn[0].intermediate_values
    train(simulation, theirs, job)
    simulation.run([ours, theirs])
    assert max(simulation.trained.values()) == 1
    assert len(configurations(ours)) == 24
    # The promoted trial goes on, although the withdrawn one has the same configuration.
    (promoted,) = (t for t in ours.study.trials if t.number == job.trial.number)
    assert max(promoted.intermediate_values) == job.epoch >= RUNGS[1]


@pytest.mark.parametrize("kills", [False, True])
def test_what_has_been_seen_agrees_with_a_new_look(
    open_search: Open, simulate: Any, kills: bool
) -> None:
    """Only changes are read: one that is overlooked would start a trial twice, or never."""
    searches = [open_search(20, parameters=1.0) for _ in range(2)]
    simulation = simulate(reports_until_kill=60 if kills else 10**9)
    step, compared = simulation.step, Counter[int]()

    def step_and_compare(search: Any, job: Job) -> bool:
        is_over: bool = step(search, job)
        new = open_search(20, parameters=1.0)
        for one in (*searches, new):
            one.is_finished()
        for one in searches:
            assert len(one.census.trials) == len(new.census.trials)
            for name in ("superseded", "stopped", "heirs", "queued", "ended"):
                assert getattr(one.census, name) == getattr(new.census, name)
            assert set(one.census.waiting) == set(new.census.waiting)
            assert set(one.census.running) == set(new.census.running)
            assert one._ladder.standings == new._ladder.standings
            assert one._ladder._reached == new._ladder._reached
            assert one._ladder._paused == new._ladder._paused
            assert one.trained() == new.trained()
            compared[len(one.census.trials)] += 1
        new.close()
        return is_over

    simulation.step = step_and_compare
    if kills:
        with pytest.raises(CommandKilledError):
            simulation.run(searches, workers=2)
        for one in searches:
            one.close()
        searches[:] = [open_search(20, parameters=1.0) for _ in range(2)]
    simulation.run(searches, workers=2)
    assert max(compared) > 20


def test_more_trials_promote_paused_ones(open_search: Open, simulate: Any) -> None:
    """Whoever continues a sweep with more trials gains from what is paused."""
    simulation, search = simulate(), open_search(6)
    search.lay_out([{LR: lr} for lr in (0.002, 0.0025, 0.003, 0.0035, 0.004, 0.0045)])
    simulation.run([search])
    paused = {r.params[LR] for r in search.records() if not r.superseded and not r.values}
    search.close()
    search = open_search(40)
    assert not search.is_finished()
    simulation.run([search])
    assert max(simulation.trained.values()) == 1
    assert len(configurations(search)) == 40
    assert paused & {lr for lr, begin, _ in simulation.legs[6:] if begin > 1}


def test_promotions_precede_a_queue(open_search: Open, simulate: Any) -> None:
    """A grid of a hundred configurations must not be started completely before any is promoted."""
    search = open_search(12)
    search.lay_out([{LR: 10 ** (-index / 4)} for index in range(12)])
    simulation = simulate()
    simulation.run([search])
    expected = Asha(iter([10 ** (-index / 4) for index in range(12)]), {})
    expected.run(1)
    assert simulation.legs == expected.legs


def test_trial_within_the_limits_wins(open_search: Open, package: Part) -> None:
    """If the best are too large, a paused one that is not must be trained to its end."""
    search, types = open_search(9, parameters=100.0), package("sweeps.types")
    saved: dict[int, int] = {}
    while (trial := search.ask("0")) is not None:
        lr, verdict = trial.params[LR], types.Verdict.CONTINUE
        # The best configurations are too large.
        size = 200.0 if best_until(lr, EPOCHS) > 0.5 else 50.0
        epoch = next((saved[n] for n in trial.earlier), 0)
        while verdict is types.Verdict.CONTINUE and epoch < EPOCHS:
            epoch += 1
            verdict = search.report(trial.number, epoch, accuracy(lr, epoch))
        saved[trial.number] = epoch
        state = types.State.FINISHED if epoch == EPOCHS else types.State.PAUSED
        metrics = {"val/acc": best_until(lr, epoch), "parameters": size}
        search.tell(trial.number, types.TrialOutcome(state, metrics))
    assert search.is_finished()
    best = package("sweeps.leaderboard").best_trials(search.records(), search.objectives)
    assert [record.metrics["parameters"] for record in best] == [50.0]


def test_sampler_learns_from_the_highest_rung(open_search: Open, simulate: Any) -> None:
    """Values of different rungs do not compare: a model of both learns who trained the longest."""
    search, simulation = open_search(60), simulate()
    simulation.run([search])
    reached = Counter(dict.fromkeys(RUNGS, 0))
    for (_, epoch), _ in simulation.trained.items():
        reached[epoch] += epoch in RUNGS
    for least in (1, 10, 15, 50, 1000):
        count, lessons = search._learn(10**6, least)
        rung = max((r for r in RUNGS if reached[r] >= least), default=FIRST)
        assert count == 60
        expected = {lr: best_until(lr, rung) for lr, epoch in simulation.trained if epoch == rung}
        assert {lesson.params[LR]: lesson.value for lesson in lessons} == expected


def test_model_proposes_after_the_random_configurations(open_search: Open, simulate: Any) -> None:
    """A model fitted to a few values proposes worse than random; later it must be used."""
    rates = {}
    for mode in ("max", "min"):
        search = open_search(30, "tpe", mode=mode, folder=mode)
        simulate().run([search])
        rates[mode] = list(dict.fromkeys(record.params[LR] for record in search.records()))
    assert rates["max"][:STARTUP] == rates["min"][:STARTUP]
    # The best rate is 10^-2.5, and the worst ones are at both ends.
    away = {
        mode: statistics.median(abs(math.log10(rate) + 2.5) for rate in found[STARTUP:])
        for mode, found in rates.items()
    }
    assert away["max"] != away["min"]
