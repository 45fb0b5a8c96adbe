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
    """Gives a sampler a study in memory with comparable values.

    With a seed, a proposal depends only on the configurations before it: after a kill, a sweep
    makes the same proposals as without one.

    Args:
        config: of the sampler.
        seed: of the sweep.
        learn: the number of configurations before a trial, and the trials to learn from, given its
            number and how many the sampler needs.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        seed: int | None,
        learn: Callable[[int, int], tuple[int, list[FrozenTrial]]],
    ) -> None:
        self._config, self._seed, self._learn = dict(config), seed, learn

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Set up the sampler for this trial; Optuna calls this before all others."""
        count, lessons = self._learn(trial.number, self._config.get("n_startup_trials", 10))
        seed = None
        if self._seed is not None:
            seed = int(np.random.SeedSequence([self._seed, count]).generate_state(1)[0])
        self._sampler = build_sampler(self._config, seed)
        model = optuna.create_study(directions=study.directions, sampler=self._sampler)
        model.add_trials(lessons)
        number = model.ask().number
        self._place = (model, model.get_trials(deepcopy=False)[number])
        return self._sampler.infer_relative_search_space(*self._place)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> Any:
        """Propose the values of the options that the model knows."""
        return self._sampler.sample_relative(*self._place, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Propose the value of any other option."""
        return self._sampler.sample_independent(*self._place, param_name, param_distribution)
