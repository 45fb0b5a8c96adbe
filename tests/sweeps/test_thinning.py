"""A large sweep proposes as fast as a small one, and still learns from the trials that matter."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers._tpe.sampler import _split_trials
from optuna.trial import FrozenTrial, TrialState, create_trial

BEST = 25  # Optuna's `default_gamma`, from 250 trials
SPACE: dict[str, BaseDistribution] = dict.fromkeys(("x", "y"), FloatDistribution(0.0, 1.0))


def value_of(number: int) -> float:
    """A value from 0 to 1 without an order: the multiples of the golden ratio."""
    return number * 0.618034 % 1


def past_trial(number: int) -> FrozenTrial:
    """One of each kind: complete, infeasible, pruned early or late, failed, and with a NaN."""
    value = value_of(number)
    params = {"x": value, "y": value_of(3 * number)}
    about: dict[str, Any] = {"params": params, "distributions": SPACE}
    match number % 8:
        case 0:
            return create_trial(value=value, constraints={"size": value - 0.5}, **about)
        case 1 | 2:
            steps = dict.fromkeys(range(number % 5), float("nan") if number % 3 == 0 else value)
            return create_trial(state=TrialState.PRUNED, intermediate_values=steps, **about)
        case 3:
            return create_trial(state=TrialState.FAIL, **about)
        case _:
            return create_trial(value=value, **about)


def good_ones(study: optuna.Study, trials: list[FrozenTrial]) -> list[int]:
    """The numbers of those that Optuna's TPE takes as good."""
    known = [t for t in trials if t.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return [trial.number for trial in _split_trials(study, known, BEST)[0]]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("kinds", [range(8), (0, 1, 2, 3), (1, 2)])
def test_the_good_trials_are_those_of_the_complete_study(
    sweeps_package: Callable[[str], Any],
    direction: Literal["minimize", "maximize"],
    kinds: Sequence[int],
) -> None:
    """Otherwise a long sweep would forget its best configurations."""
    study = optuna.create_study(direction=direction)
    thinned = sweeps_package("thinning").ThinnedStudy(study, latest=50)
    numbers = [number for number in range(900) if number % 8 in kinds]
    # In portions, as a sweep looks at the study again and again.
    for start in range(0, len(numbers), 70):
        study.add_trials([past_trial(number) for number in numbers[start : start + 70]])
        thinned.look()
    kept, complete = thinned.get_trials(deepcopy=False), study.get_trials(deepcopy=False)
    assert len(kept) <= 50 + BEST
    assert good_ones(study, kept) == good_ones(study, complete)
    assert [trial.number for trial in kept[-50:]] == [trial.number for trial in complete[-50:]]


def test_a_trial_that_still_runs_is_kept_and_counts_once_it_has_ended(
    sweeps_package: Callable[[str], Any],
) -> None:
    """Otherwise it would be proposed twice, and its result would be lost."""
    study = optuna.create_study(direction="maximize")
    thinned = sweeps_package("thinning").ThinnedStudy(study, latest=20)
    slow = [study.ask(SPACE) for _ in range(3)]
    study.add_trials([past_trial(number) for number in range(200)])
    thinned.look()
    states = {trial.number: trial.state for trial in thinned.get_trials(deepcopy=False)}
    assert [states[trial.number] for trial in slow] == [TrialState.RUNNING] * 3
    study.tell(slow[0], 2.0)
    study.tell(slow[1], -2.0)
    study.tell(slow[2], state=TrialState.FAIL)
    thinned.look()
    numbers = [trial.number for trial in thinned.get_trials(deepcopy=False)]
    # The best of all, and the worst.
    assert slow[0].number in numbers
    assert not {slow[1].number, slow[2].number} & set(numbers)
    only_complete = thinned.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    assert {trial.state for trial in only_complete} == {TrialState.COMPLETE}


def test_a_sweep_of_usual_size_is_optunas_own(sweeps_package: Callable[[str], Any]) -> None:
    """Up to two thousand trials, a seed gives the same proposals as Optuna itself."""
    proposals = []
    for is_thinned in (False, True):
        sampler: Any = optuna.samplers.TPESampler(seed=3, multivariate=True, group=True)
        if is_thinned:
            sampler = sweeps_package("thinning").ThinnedSampler(sampler)
        study = optuna.create_study(sampler=sampler)
        asked = []
        for _ in range(40):
            trial = study.ask()
            x = trial.suggest_float("x", 0, 1)
            # A parameter that only some trials have.
            y = trial.suggest_float("y", 0, 1) if x < 0.5 else 0.0
            study.tell(trial, (x - 0.3) ** 2 + y)
            asked.append(trial.params)
        proposals.append(asked)
    assert proposals[0] == proposals[1]


def test_a_search_proposes_from_few_trials(
    sweeps_package: Callable[[str], Any], tmp_path: Any
) -> None:
    """A sweep of thousands of trials proposes within a tenth of a second."""
    searches, types = sweeps_package("optuna_search"), sweeps_package("types")
    spaces, storage = sweeps_package("space"), sweeps_package("storage")
    space = spaces.Space(tuple(spaces.Parameter(name, low=0.0, high=1.0) for name in SPACE))
    for count in (1, 2):
        objectives = [types.Objective(f"val/{n}", "max") for n in range(count)]
        memory = optuna.storages.InMemoryStorage()
        study = searches.open_study(memory, f"{count}", objectives)
        lock = storage.FileLock(tmp_path / f"{count}.lock")
        search = searches.OptunaSearch(study, space, objectives, 10**6, 0, {}, lock)
        options = {"name": "tpe", "n_startup_trials": 2100, "group": True}
        search.join(options, {"name": "none"}, seed=0)
        about: dict[str, Any] = {"distributions": SPACE, "user_attrs": {"holder": "earlier"}}
        for number in range(2300):
            params = {"x": value_of(number), "y": value_of(3 * number)}
            values = [value_of(number)] * count
            study.add_trial(create_trial(params=params, values=values, **about))
        assert set(search.ask("0").params) == set(SPACE)
        thinned = isinstance(study.sampler, sweeps_package("thinning").ThinnedSampler)
        # With two objectives there is no single order of the trials.
        assert thinned == (count == 1)
        if thinned:
            # As many as the first model needs, the best, and the new one.
            assert len(study.sampler._study.get_trials(deepcopy=False)) <= 2100 + BEST + 1
        search.close()
