"""Lets TPE learn from the best and the latest trials of a large study.

TPE fits one density to the 25 best trials and another one to all the rest, in which old ones count
less (Bergstra et al., 2011, and Optuna's `default_gamma` and `default_weights`). It reads all
trials again for each proposal, whose time therefore grows with the study.
"""

import heapq
import math
from collections.abc import Container
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

# Number of trials that TPE takes as good ones, at most (Optuna's `default_gamma`).
BEST = 25
# Number of the latest trials. Up to this size of a study, nothing is left out.
LATEST = 2000
# States of the trials that TPE learns from.
LEARNED = (TrialState.COMPLETE, TrialState.PRUNED)


class ThinnedStudy(Study):
    """A study without most of its old trials.

    Args:
        study: the complete study, with a single objective.
        latest: number of the latest trials.
    """

    def __init__(self, study: Study, latest: int) -> None:
        super().__init__(study.study_name, study._storage)
        self._latest = latest
        self._is_maximized = study.direction == StudyDirection.MAXIMIZE
        self._trials: list[FrozenTrial] = []
        # Of the old trials: how many there are, the best ones, and the indices of running ones.
        self._n_old = 0
        self._best: list[FrozenTrial] = []
        self._open: list[int] = []

    def look(self) -> None:
        """Read the study; the trials remain the same until the next look."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        n_old = max(self._n_old, len(trials) - self._latest)
        # An ended trial never changes, so each is ranked once.
        indices = [*self._open, *range(self._n_old, n_old)]
        self._open = [index for index in indices if not trials[index].state.is_finished()]
        ended = [trials[index] for index in indices if trials[index].state in LEARNED]
        self._best = heapq.nsmallest(BEST, [*self._best, *ended], key=self._rank)
        kept = [*self._best, *(trials[index] for index in self._open)]
        kept.sort(key=lambda trial: trial.number)
        self._n_old, self._trials = n_old, kept + trials[n_old:]

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        """What Optuna's samplers call."""
        return [trial for trial in self._trials if states is None or trial.state in states]

    def _rank(self, trial: FrozenTrial) -> tuple[float, ...]:
        """TPE's order: by value, then pruned trials by their progress, then infeasible ones."""
        sign = -1 if self._is_maximized else 1
        violation = sum(excess for excess in trial.constraints.values() if excess > 0)
        if violation > 0:
            return 2, violation
        if trial.value is not None and trial.state == TrialState.COMPLETE:
            return 0, sign * trial.value
        step = max(trial.intermediate_values, default=-1)
        value = trial.intermediate_values.get(step, 0.0)
        return 1, -step, math.inf if math.isnan(value) else sign * value


class ThinnedSampler(BaseSampler):
    """Gives TPE the best and the latest trials of a study.

    Args:
        sampler: TPE.
        latest: number of the latest trials.
    """

    def __init__(self, sampler: TPESampler, latest: int = LATEST) -> None:
        self._sampler, self._latest = sampler, latest
        self._study: ThinnedStudy | None = None

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Read the study for this trial; Optuna calls this before all others."""
        if self._study is None:
            self._study = ThinnedStudy(study, self._latest)
        self._study.look()
        return self._sampler.infer_relative_search_space(self._study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: Any) -> Any:
        """Propose the values of the options that the model knows."""
        return self._sampler.sample_relative(self._study or study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Propose the value of any other option."""
        about = (self._study or study, trial, param_name, param_distribution)
        return self._sampler.sample_independent(*about)
