"""Pause and promote: the decisions of asynchronous successive halving (ASHA).

Configurations pause at rungs, such as after 3, 12 and 48 epochs, and a fraction of those at each
rung is promoted to the next one (Li et al., "A System for Massively Parallel Hyperparameter
Tuning", MLSys 2020). A paused configuration may be promoted at any later time, when others turn out
to be worse: a wrong decision is not final, as it is with pruning.

Nothing here trains, stores or samples, so that a simulation makes the same decisions as a sweep.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..checks import check_integer
from ..errors import UserError, nearest
from .types import State

# The name of the pruner.
PROMOTE = "promote"
# The options of `configs/hydra/sweeper/pruner/promote.yaml`, for when only the name is given.
OPTIONS: dict[str, Any] = {"min_epochs": 3, "factor": 4, "n_startup_trials": None}
# The largest number of random configurations that is chosen automatically.
MOST_RANDOM = 40

# More reports than any training sends: the last rung if the length of a training is not known.
ENDLESS = 10**9

# Whether a limit is exceeded, the loss, the configuration, and its trial: the lowest is the best.
Place = tuple[bool, float, int, int]


@dataclass(frozen=True)
class Standing:
    """How a configuration compares with others.

    Attributes:
        number: of the configuration; the lower one wins a tie.
        state: of the configuration; only PAUSED ones can be promoted.
        losses: from `Rungs.losses`, one for each rung that it has reached; none if it has failed.
        is_feasible: whether it meets all limits, as far as they have been measured.
    """

    number: int
    state: State
    losses: tuple[float, ...] = ()
    is_feasible: bool = True


@dataclass(frozen=True)
class Rungs:
    """The rungs of a sweep and the rule of promotion.

    Attributes:
        steps: the number of reports at each rung; the last is a complete training.
        factor: one in this number of configurations is promoted.
        mode: `min` or `max`.
    """

    steps: tuple[int, ...]
    factor: int
    mode: str

    @classmethod
    def between(cls, first: int, length: int | None, factor: int, mode: str) -> "Rungs":
        """The rungs `first * factor**k` below `length`, and `length` itself.

        Args:
            first: number of reports at the first rung.
            length: number of reports of a complete training; None if it is not known.
            factor: the ratio of neighbouring rungs.
            mode: of the objective.
        """
        steps = [first]
        while steps[-1] < (length or ENDLESS):
            steps.append(steps[-1] * factor)
        return cls((*steps[:-1], length or ENDLESS), factor, mode)

    def reached(self, step: int) -> int:
        """The number of rungs that a training of `step` reports has reached."""
        return bisect_right(self.steps, step)

    def losses(
        self, reports: Mapping[int, float], result: float | None = None
    ) -> tuple[float, ...]:
        """The lowest loss up to each rung that was reached; infinite if there was no number.

        A rung is reached by the first report at or after it. A configuration with a `result` is
        complete and has reached all rungs, even if early stopping ended it before the first one.
        """
        found: list[float] = []
        best = math.inf
        for step in sorted(reports):
            best = min(best, self.loss(reports[step]))
            found += [best] * (self.reached(step) - len(found))
        if result is not None:
            # The result counts at the last rung: with several seeds, it is their mean.
            last = len(self.steps) - 1
            found = (found + [min(best, self.loss(result))] * last)[:last]
            found.append(self.loss(result))
        return tuple(found)

    def loss(self, value: float) -> float:
        """A value of the objective, negated if higher is better; infinite if it is not finite."""
        if not math.isfinite(value):
            return math.inf
        return -value if self.mode == "max" else value


class Ladder:
    """The standings of all configurations, sorted at each rung.

    Args:
        rungs: of the sweep.

    Attributes:
        standings: by the number of a trial of the configuration.
    """

    def __init__(self, rungs: Rungs) -> None:
        self.standings: dict[int, Standing] = {}
        self._factor = rungs.factor
        # Whoever has reached a rung, and those of them that are paused there.
        self._reached: list[list[Place]] = [[] for _ in rungs.steps]
        self._paused: list[list[Place]] = [[] for _ in rungs.steps]

    def put(self, number: int, standing: Standing) -> None:
        """Add a standing, or replace an earlier one of this trial."""
        self._take_out(number)
        self.standings[number] = standing
        for places, place in self._places(number):
            insort(places, place)

    def remove(self, number: int) -> None:
        """Remove the standing of a trial, if there is one."""
        self._take_out(number)
        self.standings.pop(number, None)

    def promotable(self, is_ending: bool = False) -> int | None:
        """The paused trial to promote next: the best of the highest possible rung.

        Args:
            is_ending: whether no other configuration is running, waiting, or left to be started.
                In this case the best configuration of each rung is promoted however few there are,
                so that the winner is always trained completely.
        """
        for reached, paused in zip(self._reached[-2::-1], self._paused[-2::-1], strict=True):
            count = max(len(reached) // self._factor, int(is_ending))
            if paused and bisect_left(reached, paused[0]) < count:
                return paused[0][-1]
        return None

    def informative(self, least: int) -> int:
        """The highest rung that `least` configurations have reached, or else the first.

        A sampler learns from a single rung, because values of different rungs do not compare
        (Falkner et al., "BOHB", ICML 2018).
        """
        known = [rung for rung, places in enumerate(self._reached) if len(places) >= least]
        return max(known, default=0)

    def _take_out(self, number: int) -> None:
        for places, place in self._places(number):
            del places[bisect_left(places, place)]

    def _places(self, number: int) -> Iterator[tuple[list[Place], Place]]:
        """The lists that hold a trial, and its place in them."""
        standing = self.standings.get(number, Standing(number, State.WAITING))
        for rung, loss in enumerate(standing.losses):
            place = (not standing.is_feasible, loss, standing.number, number)
            yield self._reached[rung], place
            if standing.state is State.PAUSED and rung == len(standing.losses) - 1:
                yield self._paused[rung], place


def read_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the pruner.

    Raises:
        UserError: an unknown option or an invalid value.
    """
    for name in config.keys() - {"name"}:
        if name not in OPTIONS:
            hint = nearest(name, OPTIONS)
            raise UserError(f"hydra.sweeper.pruner (promote) has no {name!r}; {hint}")
    options = {name: config.get(name, value) for name, value in OPTIONS.items()}
    check_integer("hydra.sweeper.pruner.min_epochs", options["min_epochs"], least=1)
    check_integer("hydra.sweeper.pruner.factor", options["factor"], least=2)
    name = "n_startup_trials"
    check_integer(f"hydra.sweeper.pruner.{name}", options[name], least=0, optional=True)
    return options


def startup_trials(given: int | None, n_trials: int) -> int:
    """The number of random configurations before a model proposes any: `given`, or half of all."""
    return min(MOST_RANDOM, n_trials // 2) if given is None else given
