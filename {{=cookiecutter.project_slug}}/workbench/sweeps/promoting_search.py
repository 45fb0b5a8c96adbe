"""A search by Optuna's samplers that pauses trials at rungs and promotes the best of them.

For Optuna, a paused trial is pruned and has an attribute `paused`, the number of its reports. Its
promotion is another trial with the same values and an attribute `goal`, the number of reports at
which it pauses next. Everything is derived from the study: several commands decide alike, and a
command that is killed loses nothing.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from .census import inherited, state_of
from .optuna_search import OptunaSearch
from .plan import Plan
from .promotion import ENDLESS, PROMOTE, Ladder, Rungs, Standing, read_options, startup_trials
from .rung_sampler import MODELS, RungSampler
from .types import State, Verdict, excesses


class PromotingSearch(OptunaSearch):
    """Implements `Search` with rungs instead of a pruner.

    Args:
        args: of `OptunaSearch`.
        rungs: the numbers of reports at which trials pause.
        n_startup_trials: number of random configurations before a model proposes any.
        trainings: number of trainings of a configuration, one per seed and fold.
    """

    def __init__(self, *args: Any, rungs: Rungs, n_startup_trials: int, trainings: int = 1) -> None:
        super().__init__(*args)
        self.rungs = rungs
        self._n_startup_trials = n_startup_trials
        self._trainings = trainings
        self._ladder = Ladder(rungs)
        # What a sampler learns from a standing at a rung.
        self._lessons: dict[int, tuple[Standing, int, FrozenTrial | None]] = {}

    def join(
        self, sampler: Mapping[str, Any], pruner: Mapping[str, Any], seed: int | None
    ) -> int | None:
        """Take a lease, and set up the sampler."""
        joined = super().join(sampler, {"name": "none"}, seed)
        if sampler["name"] in MODELS:
            self.study.sampler = RungSampler(sampler, seed, self._n_startup_trials, self._learn)
        return joined

    def report(self, number: int, step: int, value: float) -> Verdict:
        """Record a value; PAUSE at a rung, unless this trial is the one to promote next."""
        trial, verdict, steps = self._running[number], Verdict.CONTINUE, self.rungs.steps
        with self._lock.batch(), self._lock.held():
            if steps[self._goal(trial.user_attrs)] <= step < steps[-1]:
                # Recorded before the value: whoever finds a value at a rung finds the decision.
                verdict = self._decide(trial, step, value)
            trial.report(value, step)
        return verdict

    def is_finished(self) -> bool:
        """Whether `n_trials` configurations have ended, and none of them is to be promoted."""
        self._look()
        is_over = self._ended_by() is not None or self._promotable() is None
        return is_over and super().is_finished()

    def _note(self, changed: Sequence[FrozenTrial]) -> None:
        super()._note(changed)
        for trial in changed:
            for number in trial.user_attrs.get("earlier", ()):
                self._ladder.remove(number)
            if trial.number in self.census.superseded:
                self._ladder.remove(trial.number)
            else:
                self._ladder.put(trial.number, self._standing(trial))

    def _decide(self, trial: optuna.Trial, step: int, value: float) -> Verdict:
        number = trial.number
        own = self._look().trials[number]
        losses = self.rungs.losses(self._reports(own) | {step: value})
        running = self._standing(own)
        self._ladder.put(number, replace(running, state=State.PAUSED, losses=losses))
        promotable = self._promotable(reporting=number)
        self._ladder.put(number, running)
        if promotable == number:
            trial.set_user_attr("goal", self.rungs.steps[self.rungs.reached(step)])
            return Verdict.CONTINUE
        trial.set_user_attr("paused", step)
        return Verdict.PAUSE

    def _next(self) -> optuna.Trial | None:
        """Promote a paused trial, or else start a queued or a new configuration."""
        census, number = self.census, self._promotable()
        if number is None:
            must_wait = census.running and not census.waiting and self._is_short()
            return None if must_wait else super()._next()
        paused = census.trials[number]
        goal = self.rungs.steps[len(self._ladder.standings[number].losses)]
        more = {"goal": goal, "holder": self.holders.id}
        about: dict[str, Any] = {"params": paused.params, "distributions": paused.distributions}
        about |= {"user_attrs": inherited(paused) | more, "state": TrialState.RUNNING}
        # Not queued: it would come after everything that is queued already.
        self.study.add_trial(create_trial(**about))
        running = self._look().running
        own = [t for t in running.values() if t.user_attrs.get("holder") == self.holders.id]
        ids = [t._trial_id for t in own if t.user_attrs.get("earlier", [])[:1] == [number]]
        return optuna.Trial(self.study, ids[-1])

    def _is_too_many(self, number: int) -> bool:
        """Whether another command, on a database without our lock, was faster."""
        census = self._look()
        for paused in census.trials[number].user_attrs.get("earlier", ())[:1]:
            if census.heirs.get(paused, number) != number:
                return True
        return super()._is_too_many(number)

    def _try_again(self, number: int, state: State) -> None:
        """Queue the configuration again, unless it was stopped when it had to pause anyway."""
        trial = self._look().trials[number]
        reached = self.rungs.reached(max(trial.intermediate_values, default=0))
        is_due = self._goal(trial.user_attrs) < reached < len(self.rungs.steps)
        if state is State.STOPPED and is_due and "paused" in trial.user_attrs:
            # Its last checkpoint is that of the rung: it is saved before a report is sent.
            self._finish(number, State.PAUSED, [])
        else:
            super()._try_again(number, state)

    def _goal(self, attributes: Mapping[str, Any]) -> int:
        """The index of the rung that a trial is trained to."""
        return self.rungs.reached(attributes.get("goal", 1) - 1)

    def _promotable(self, reporting: int | None = None) -> int | None:
        """The number of the trial to promote next.

        Args:
            reporting: a running trial that is treated as paused.
        """
        census = self.census
        others = (number for number in census.running if number != reporting)
        is_busy = any(number not in census.superseded for number in others)
        is_ending = not (is_busy or census.waiting or self._has_room()) or self._is_short()
        return self._ladder.promotable(is_ending)

    def _is_short(self) -> bool:
        """Whether the epochs or the time left are needed to train a first configuration completely.

        The others wait for it once those that are running have paused.
        """
        budgets, steps = self.budgets, self.rungs.steps
        if (budgets.epochs is None and budgets.deadline == math.inf) or steps[-1] == ENDLESS:
            return False
        if any(trial.state == TrialState.COMPLETE for trial in self.census.trials):
            return False
        due = steps[-1] * self._trainings
        left = [
            steps[self._goal(trial.user_attrs)] - max(self._reports(trial), default=0)
            for trial in self.census.running.values()
        ]
        if budgets.epochs is not None and budgets.epochs - budgets.trained <= due + sum(left):
            return True
        seconds = self._seconds_per_epoch() * (due + max(left, default=0))
        return budgets.deadline - time.monotonic() <= seconds

    def _seconds_per_epoch(self) -> float:
        """The average over the configurations that have paused; 0 if none has."""
        trials = (t for t in self.census.trials if t.duration and "earlier" not in t.user_attrs)
        known = [(t.duration, max(t.intermediate_values)) for t in trials if t.intermediate_values]
        seconds = sum(duration.total_seconds() for duration, _ in known if duration)
        return seconds / max(1, sum(epochs for _, epochs in known))

    def _standing(self, trial: FrozenTrial) -> Standing:
        state, result = state_of(trial), trial.values[0] if trial.values else None
        reports = {} if state is State.FAILED else self._reports(trial)
        losses = self.rungs.losses(reports, result if state is State.FINISHED else None)
        is_feasible = all(excess <= 0 for excess in self._excesses(trial).values())
        first = self.census.attempts(trial)[-1].number
        return Standing(first, state, losses, is_feasible)

    def _excesses(self, trial: FrozenTrial) -> dict[str, float]:
        """By how much a configuration exceeds each limit; empty if nothing has been measured."""
        attempts = self.census.attempts(trial)
        found = (attempt.user_attrs.get("metrics") for attempt in attempts)
        return next((excesses(metrics, self.limits) for metrics in found if metrics), {})

    def _reports(self, trial: FrozenTrial) -> dict[int, float]:
        """The reports of a configuration: a resumed trial repeats them only once it runs."""
        reports: dict[int, float] = {}
        for attempt in reversed(self.census.attempts(trial)):
            reports |= attempt.intermediate_values
        return reports

    def _learn(self, number: int, least: int) -> tuple[int, list[FrozenTrial]]:
        """The number of configurations before a trial, and what its sampler learns from.

        These are the configurations at the highest rung with at least `least` of them. Others that
        are running are included without a value, so that none is proposed twice.
        """
        self._look()
        rung = self._ladder.informative(least)
        known = [(n, standing) for n, standing in self._ladder.standings.items() if n != number]
        lessons = [self._lesson(n, standing, rung) for n, standing in known]
        count = sum(standing.number < number for _, standing in known)
        return count, [lesson for lesson in lessons if lesson is not None]

    def _lesson(self, number: int, standing: Standing, rung: int) -> FrozenTrial | None:
        known = self._lessons.get(number)
        if known is None or known[0] is not standing or known[1] != rung:
            known = self._lessons[number] = standing, rung, self._teach(number, standing, rung)
        return known[2]

    def _teach(self, number: int, standing: Standing, rung: int) -> FrozenTrial | None:
        trial = self.census.trials[number]
        drawn = next((t for t in self.census.attempts(trial) if t.params), trial)
        about: dict[str, Any] = {"params": drawn.params, "distributions": drawn.distributions}
        excess = self._excesses(trial)
        if len(standing.losses) > rung and bool(excess) == bool(self.limits):
            about["constraints"] = {n: e for n, e in excess.items() if math.isfinite(e)}
            sign = -1 if self.rungs.mode == "max" else 1
            return create_trial(value=sign * standing.losses[rung], **about)
        if standing.state is State.RUNNING and drawn.params:
            return create_trial(state=TrialState.RUNNING, **about)
        return None


def search_class(plan: Plan) -> Callable[..., OptunaSearch]:
    """What searches with the pruner of a plan, called as `OptunaSearch` is."""
    if plan.settings.pruner["name"] != PROMOTE:
        return OptunaSearch
    options, mode = read_options(plan.settings.pruner), plan.objectives[0].mode
    return partial(
        PromotingSearch,
        rungs=Rungs.between(options["min_epochs"], plan.length, options["factor"], mode),
        n_startup_trials=startup_trials(options["n_startup_trials"], plan.n_trials),
        trainings=len(plan.base.repeats()),
    )
