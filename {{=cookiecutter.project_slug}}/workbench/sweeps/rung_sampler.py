"""A sampler of Optuna that learns from a single rung of a search with promotion."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from .optuna_engine import build_sampler

# The samplers that fit a model to all earlier values; the others learn nothing from paused trials.
MODELS = ("gp", "tpe")


class RungSampler(BaseSampler):
    """Gives a sampler a study in memory, with the values of one rung.

    In the study itself, a configuration appears once per attempt, and its value depends on how far
    it was trained: a sampler would learn which configurations were trained the longest.

    With a seed, a proposal depends only on the number of configurations before it and on their
    values. A sweep that was killed and continued makes the same proposals as any other.

    Args:
        config: of the sampler.
        seed: of the sweep.
        lessons: the trials to learn from, given the number of trials that the model needs and the
            number of the trial to propose.
        count: the number of configurations before a trial.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        seed: int | None,
        lessons: Callable[[int, int], list[FrozenTrial]],
        count: Callable[[int], int],
    ) -> None:
        self._config = dict(config)
        self._seed = seed
        self._lessons = lessons
        self._count = count

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Set up the sampler for this trial, and ask it for its search space."""
        seed = None
        if self._seed is not None:
            mixed = np.random.SeedSequence([self._seed, self._count(trial.number)])
            seed = int(mixed.generate_state(1)[0])
        sampler = build_sampler(self._config, seed)
        model = optuna.create_study(directions=study.directions, sampler=sampler)
        model.add_trials(self._lessons(self._config.get("n_startup_trials", 10), trial.number))
        own = model.get_trials(deepcopy=False)[model.ask().number]
        self._about = (model, own)
        self._sampler = sampler
        return sampler.infer_relative_search_space(*self._about)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the values of the options that the model knows."""
        return self._sampler.sample_relative(*self._about, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Propose the value of any other option."""
        return self._sampler.sample_independent(*self._about, param_name, param_distribution)
