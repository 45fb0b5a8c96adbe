"""A sampler of Optuna that learns from a single rung of a search with promotion."""

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from .optuna_engine import build_sampler

# The samplers that fit a model to all earlier values; the others learn nothing from paused trials.
MODELS = ("gp", "tpe")
# Number of configurations at a rung that a model is fitted to, as in BOHB with few options.
LEAST = 10


class Lessons(InMemoryStorage):
    """Optuna's storage in memory, with trials that are not copied, as a new one would be.

    Args:
        trials: numbered here from 1.
    """

    def __init__(self, trials: Sequence[FrozenTrial]) -> None:
        super().__init__()
        self._lessons = list(trials)
        for number, trial in enumerate(trials, 1):
            trial.number = number

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """The trials, and those that have been added to the study."""
        lessons = [trial for trial in self._lessons if states is None or trial.state in states]
        lessons = copy.deepcopy(lessons) if deepcopy else lessons
        return lessons + super().get_all_trials(study_id, deepcopy, states)


class RungSampler(BaseSampler):
    """Gives a sampler a study in memory with comparable values.

    With a seed, a proposal depends only on the configurations before it: after a kill, a sweep
    makes the same proposals as without one.

    Args:
        config: of the sampler.
        seed: of the sweep.
        n_startup_trials: number of random configurations before the first that is proposed.
        learn: the number of configurations before a trial, and the trials to learn from, given its
            number and how many the sampler needs.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        seed: int | None,
        n_startup_trials: int,
        learn: Callable[[int, int], tuple[int, list[FrozenTrial]]],
    ) -> None:
        # A rung is used only once it has enough values for a model.
        self._config = {**config, "n_startup_trials": 0}
        self._seed, self._learn = seed, learn
        self._n_startup_trials = n_startup_trials

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Set up the sampler for this trial; Optuna calls this before all others."""
        count, lessons = self._learn(trial.number, LEAST)
        known = sum(lesson.state == TrialState.COMPLETE for lesson in lessons)
        is_model = count >= self._n_startup_trials and known >= LEAST
        seed = None
        if self._seed is not None:
            seed = int(np.random.SeedSequence([self._seed, count]).generate_state(1)[0])
        self._sampler = build_sampler(self._config if is_model else {"name": "random"}, seed)
        storage = Lessons(lessons)
        about: dict[str, Any] = {"storage": storage, "sampler": self._sampler}
        model = optuna.create_study(directions=study.directions, **about)
        self._place = (model, storage.get_trial(model.ask()._trial_id))
        return self._sampler.infer_relative_search_space(*self._place)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> Any:
        """Propose the values of the options that the model knows."""
        return self._sampler.sample_relative(*self._place, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Propose the value of any other option."""
        return self._sampler.sample_independent(*self._place, param_name, param_distribution)
