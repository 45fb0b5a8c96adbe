"""Budgets of a sweep: epochs, patience, and Optuna's terminator."""

import math
import random
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from omegaconf import OmegaConf
from optuna import terminator

from ..conftest import BakedProject
from ..support.sweeps import LR as LEARNING_RATES
from ..support.sweeps import sweep
from ..support.template_package import Part

LR = "optimizer.lr"
Open = Callable[..., Any]


@pytest.fixture
def open_search(package: Part, tmp_path: Path) -> Open:
    """Opens a study; again, as the next command would."""
    memory = optuna.storages.InMemoryStorage()

    def make(*modes: str, n_trials: int = 10**9, **budgets: Any) -> Any:
        space, types = package("sweeps.space"), package("sweeps.types")
        storage, search = package("sweeps.storage"), package("sweeps.optuna_search")
        lock = storage.FileLock(tmp_path / "study.lock")
        names = ("val/acc", "parameters")
        goals = [types.Objective(*pair) for pair in zip(names, modes or ("max",), strict=False)]
        study = search.open_study(memory, "study", goals)
        lr = space.Parameter(LR, low=1e-5, high=1.0, log=True)
        found = search.OptunaSearch(study, space.Space((lr,)), goals, n_trials, 2, {}, lock)
        found.budgets = package("sweeps.budgets").Budgets(**budgets)
        found.join({"name": "random"}, {"name": "none"}, 7)
        return found

    return make


# Of a complete training; the rungs are 2, 6 and 14.
LENGTH = 14


@pytest.fixture
def open_promoting(package: Part, tmp_path: Path) -> Open:
    """Opens a study with promotion."""

    def make(**budgets: Any) -> Any:
        space, types = package("sweeps.space"), package("sweeps.types")
        storage, search = package("sweeps.storage"), package("sweeps.optuna_search")
        rungs = package("sweeps.promotion").Rungs.between(2, LENGTH, 3, "max")
        lock = storage.FileLock(tmp_path / "study.lock")
        goals = [types.Objective("val/acc", "max")]
        study = search.open_study(optuna.storages.InMemoryStorage(), "study", goals)
        lr = space.Parameter(LR, low=1e-5, high=1.0, log=True)
        about: tuple[Any, ...] = (study, space.Space((lr,)), goals, 10**9, 2, {}, lock)
        kind = package("sweeps.promoting_search").PromotingSearch
        found = kind(*about, rungs=rungs, n_startup_trials=0)
        found.budgets = package("sweeps.budgets").Budgets(**budgets)
        found.join({"name": "random"}, {"name": "promote"}, 7)
        return found

    return make


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("epochs", 0, "an integer of at least 1"),
        ("epochs", 1e3, "an integer of at least 1"),
        ("patience", -1, "an integer of at least 1"),
        ("terminator", 3, "true or false"),
    ],
)
def test_invalid_budget_is_rejected(
    demo: BakedProject, package: Part, name: str, value: Any, expected: str
) -> None:
    """A typing error would be found after a night of training."""
    settings, errors = package("sweeps.settings"), package("errors")
    config = OmegaConf.load(demo.root / "configs/hydra/sweeper/optuna.yaml")
    options = OmegaConf.merge(config, {"sampler": "tpe", "pruner": "none", name: value})
    del options.defaults
    with pytest.raises(errors.UserError) as raised:
        settings.read_settings(options)
    assert f"hydra.sweeper.{name} must be {expected}" in str(raised.value)


def test_terminator_needs_one_objective(demo: BakedProject, package: Part) -> None:
    """It would end a sweep by the first of several objectives."""
    settings, errors = package("sweeps.settings"), package("errors")
    config = OmegaConf.load(demo.root / "configs/hydra/sweeper/optuna.yaml")
    more = {"terminator": True, "more_objectives": {"parameters": "min"}}
    options = OmegaConf.merge(config, {"sampler": "tpe", "pruner": "none"}, more)
    del options.defaults
    with pytest.raises(errors.UserError, match=r"hydra\.sweeper\.terminator judges one objective"):
        settings.read_settings(options)


@pytest.fixture
def end(package: Part) -> Callable[..., Any]:
    """Runs a trial to its end."""
    types = package("sweeps.types")

    def run(search: Any, state: str, *values: float, retry: bool = False) -> Any:
        trial = search.ask("0")
        metrics = dict(zip(("val/acc", "parameters"), values, strict=False))
        outcome = types.TrialOutcome(types.State(state), metrics, retry=retry)
        return search.tell(trial.number, outcome)

    return run


def test_each_trained_epoch_counts_once(open_search: Open, package: Part) -> None:
    """A budget that counts too much ends a sweep early; one that counts too little costs money.

    A random script of trainings that are killed, stopped and resumed from a checkpoint, which may
    be older or newer than the last report, or missing, and of commands that die.
    """
    types, script = package("sweeps.types"), random.Random(0)
    search, trained = open_search(), 0
    saved: dict[int, int] = {}
    for _ in range(60):
        trial = search.ask("0")
        kept = [saved[number] for number in trial.earlier if number in saved]
        epoch = kept[0] if kept and script.random() < 0.8 else 0
        for step in range(1, epoch + 1):
            search.repeat(trial.number, step, epoch)
            search.report(trial.number, step, 0.5)
        for _ in range(script.randrange(6)):
            epoch += 1
            trained += 1
            saved[trial.number] = epoch
            search.report(trial.number, epoch, 0.5)
        assert search.trained() == trained
        chance = script.random()
        if chance < 0.3:
            # The command dies, and the next one takes its trial over.
            search.close()
            search = open_search()
        elif chance < 0.8:
            state = types.State.STOPPED if chance < 0.6 else types.State.FAILED
            search.tell(trial.number, types.TrialOutcome(state, retry=True))
        else:
            outcome = types.TrialOutcome(types.State.FINISHED, {"val/acc": 0.5})
            search.tell(trial.number, outcome)
        assert search.trained() == trained
    assert open_search().trained() == trained > 100


def test_epoch_that_was_saved_but_not_reported_counts(open_search: Open, package: Part) -> None:
    """A kill between the checkpoint and the report must not make an epoch free."""
    types, search = package("sweeps.types"), open_search()
    first = search.ask("0")
    search.report(first.number, 1, 0.5)
    search.tell(first.number, types.TrialOutcome(types.State.FAILED, retry=True))
    second = search.ask("0")
    for step in (1, 2):
        search.repeat(second.number, step, 2)
        search.report(second.number, step, 0.5)
    search.report(second.number, 3, 0.5)
    assert search.trained() == 3


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        ([1, 2, 3], 1, 3),
        # Two seeds of 20 epochs, of which the first ended after 3.
        ([1, 2, 3, 21, 22], 1, 5),
        # One validation in two epochs; the first seed ended after 6 of 20.
        ([2, 4, 6, 22, 24], 2, 10),
        ([], 1, 0),
    ],
)
def test_epochs_without_report_and_of_every_seed(
    open_search: Open, steps: list[int], every: int, expected: int
) -> None:
    """A sweep with seeds or few validations would train several times its budget."""
    search = open_search(every=every)
    trial = search.ask("0")
    for step in steps:
        search.report(trial.number, step, 0.5)
    assert search.trained() == expected


def test_used_up_epochs_start_no_trial(open_search: Open) -> None:
    """Whoever pays by the epoch would pay for more."""
    search = open_search(epochs=3)
    one, other = search.ask("0"), search.ask("1")
    for number, step in ((one.number, 1), (other.number, 1), (one.number, 2)):
        assert search.ended_by() is None
        search.report(number, step, 0.5)
    assert search.ended_by() == "hydra.sweeper.epochs=3 is used up"
    assert search.ask("0") is None
    # Those that run are still to stop.
    assert not search.is_finished()
    search.close()
    larger = open_search(epochs=4)
    assert larger.ended_by() is None
    assert larger.ask("0").earlier == (0,)


@pytest.mark.parametrize(
    ("modes", "results", "expected"),
    [
        (
            ("max",),
            [("finished", 0.5), ("failed",), ("pruned",), ("paused",), ("finished", 0.4)],
            3,
        ),
        # An equal value does not count as an improvement.
        (("max",), [("finished", 0.5), ("finished", 0.5)], 1),
        (("min",), [("finished", 0.5), ("pruned",), ("finished", 0.4), ("pruned",)], 1),
        # Nothing to improve yet.
        (("max",), [("pruned",), ("pruned",), ("finished", 0.1)], 0),
        # The front: a better second objective, and a dominated one.
        (("max", "min"), [("finished", 0.5, 9), ("finished", 0.4, 8)], 0),
        (("max", "min"), [("finished", 0.5, 9), ("finished", 0.4, 9), ("pruned",)], 2),
    ],
)
def test_patience_counts_trials_since_the_last_improvement(
    open_search: Open,
    end: Callable[..., Any],
    modes: tuple[str, ...],
    results: list[tuple[Any, ...]],
    expected: int,
) -> None:
    """A sweep would end although it improves, or never."""
    search = open_search(*modes)
    for state, *values in results:
        end(search, state, *values)
    for patience, is_over in ((expected, expected > 0), (expected + 1, False)):
        again = open_search(*modes, patience=patience or None)
        assert (again.ended_by() is not None) == is_over
        assert again.is_finished() == is_over
        assert (again.ask("0") is None) == is_over


def test_running_trial_may_still_improve(open_search: Open, package: Part, end: Any) -> None:
    """The best trial would be stopped or ignored because others ended first."""
    types, search = package("sweeps.types"), open_search(patience=2)
    slow = search.ask("0")
    for value in (0.5, 0.4, 0.3):
        end(search, "finished", value)
    assert search.ended_by() == "no improvement in 2 trials (hydra.sweeper.patience)"
    assert search.ask("1") is None
    assert not search.is_finished()
    search.tell(slow.number, types.TrialOutcome(types.State.FINISHED, {"val/acc": 0.6}))
    assert search.ended_by() is None
    assert search.ask("1") is not None


def test_terminator_ends_a_converged_study(open_search: Open, package: Part) -> None:
    """It would end studies too early or never; Optuna's own class is the reference."""
    search = open_search("min", terminator=package("sweeps.budgets").Terminator())
    types = package("sweeps.types")
    while (trial := search.ask("0")) is not None and trial.number < 60:
        metrics = {"val/acc": abs(math.log10(trial.params[LR]) + 2)}
        search.tell(trial.number, types.TrialOutcome(types.State.FINISHED, metrics))
    done = search.study.trials
    assert 30 <= len(done) < 60
    assert search.ended_by() == "Optuna expects no further improvement (hydra.sweeper.terminator)"
    for count in (len(done) - 1, len(done)):
        study = optuna.create_study()
        study.add_trials(done[:count])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            error = terminator.MedianErrorEvaluator(terminator.EMMREvaluator(seed=0))
            judge = terminator.Terminator(terminator.EMMREvaluator(seed=0), error)
            assert judge.should_terminate(study) == (count == len(done))


@pytest.mark.parametrize(("epochs", "workers"), [(15, 1), (40, 1), (40, 3), (200, 3)])
def test_promotion_completes_a_winner_within_the_epochs(
    open_promoting: Open, package: Part, epochs: int, workers: int
) -> None:
    """A sweep would end with trials that are all paused, and without a model."""
    types, search = package("sweeps.types"), open_promoting(epochs=epochs)
    running: dict[int, tuple[Any, int]] = {}
    saved: dict[int, int] = {}
    trained = completed = 0
    while True:
        while len(running) < workers and (trial := search.ask("0")) is not None:
            running[trial.number] = trial, next((saved[n] for n in trial.earlier), 0)
            for step in range(1, running[trial.number][1] + 1):
                search.repeat(trial.number, step, running[trial.number][1])
                search.report(trial.number, step, trial.params[LR] * step)
        if not running:
            break
        for number, (trial, epoch) in list(running.items()):
            trained += 1
            saved[number] = epoch + 1
            verdict = search.report(number, epoch + 1, trial.params[LR] * (epoch + 1))
            running[number] = trial, epoch + 1
            state = types.State.PAUSED if verdict is types.Verdict.PAUSE else None
            if search.trained() >= epochs:
                state = types.State.STOPPED
            if epoch + 1 == LENGTH:
                state = types.State.FINISHED
                completed += 1
            if state is not None:
                metrics = {"val/acc": trial.params[LR] * (epoch + 1)}
                search.tell(number, types.TrialOutcome(state, metrics))
                del running[number]
    assert completed >= 1
    assert trained == search.trained()
    assert epochs <= trained < epochs + workers
    assert search.is_finished()


def test_paused_trial_that_leads_at_its_rung_is_an_improvement(
    package: Part, make: Any, goals: Any
) -> None:
    """One in many trials finishes: the others would use up the patience, whatever they show."""

    def count(*trials: tuple[str, float, int]) -> int:
        """The value after the first epoch, which every epoch adds 1 to, and the last epoch."""
        records = []
        for number, (state, value, length) in enumerate(trials):
            steps = {epoch: value + epoch - 1 for epoch in range(1, length + 1)}
            values = (steps[length],) if state == "finished" else ()
            records.append(make(number, *values, state=state, steps=steps))
        return int(package("sweeps.budgets").unimproved(records, goals("max")))

    first = [("paused", 0.5, 2), ("finished", 0.7, 9)]
    assert count(*first) == 0
    # Worse than the finished one was then; better; and no better than the last.
    assert count(*first, ("paused", 0.6, 2)) == 1
    assert count(*first, ("paused", 0.6, 2), ("paused", 0.8, 2)) == 0
    assert count(*first, ("paused", 0.8, 2), ("paused", 0.8, 2)) == 1
    # The first that is paused further on was compared with the finished one only.
    assert count(*first, ("paused", 0.6, 4)) == 1
    assert count(*first, ("paused", 0.8, 2), ("paused", 0.75, 4)) == 0
    # A pruned or failed trial leads nobody.
    assert count(*first, ("pruned", 0.9, 2), ("failed", 0.9, 2), ("paused", 0.8, 2)) == 0


def test_promotion_completes_a_winner_within_the_time(open_promoting: Open, package: Part) -> None:
    """A job with a time limit would end without a model, as all its trials are paused."""
    types, search = package("sweeps.types"), open_promoting(deadline=time.monotonic() + 1e6)
    for _ in range(2):
        trial = search.ask("0")
        verdicts = [search.report(trial.number, step, trial.params[LR]) for step in (1, 2)]
        assert verdicts == [types.Verdict.CONTINUE, types.Verdict.PAUSE]
        search.tell(trial.number, types.TrialOutcome(types.State.PAUSED))
    best = max(range(2), key=lambda number: float(search.study.trials[number].params[LR]))
    # One in three is promoted, and these are two: with enough time, there is another one first.
    assert search.ask("0").earlier == ()
    search.budgets.deadline = time.monotonic()
    assert search.ask("1").earlier == (best,)
    # The others wait.
    assert search.ask("2") is None


SHORT = ("callbacks.early_stopping=null", "trainer.max_epochs=4", "hydra.sweeper.pruner=none")


def test_sweep_ends_when_its_epochs_are_used_up(demo: BakedProject, tmp_path: Path) -> None:
    """More would be trained than was asked for, or what was trained would be lost."""
    options = (LEARNING_RATES, *SHORT, "hydra.sweeper.workers=1")
    first = sweep(demo, tmp_path / "epochs", *options, "hydra.sweeper.epochs=6")
    assert (
        "hydra.sweeper.epochs=6 is used up: 1 trials have ended (1 finished), 1 were stopped; "
        "raise or remove this limit to continue"
    ) in first.printed
    assert "test/acc: " in first.printed
    assert "6 of 6 epochs" in first.printed
    states = {row["number"]: (row["state"], row["epochs"]) for row in first.rows}
    assert states == {"0": ("finished", "4"), "1": ("stopped", "2")}
    # The second trial resumes: its first two epochs are not trained again.
    second = sweep(demo, tmp_path / "epochs", *options, "hydra.sweeper.epochs=11")
    states = {row["number"]: (row["state"], row["epochs"]) for row in second.rows}
    assert states == {"0": ("finished", "4"), "2": ("finished", "4"), "3": ("stopped", "3")}
