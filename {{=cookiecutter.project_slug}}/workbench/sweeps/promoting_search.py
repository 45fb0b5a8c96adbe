"""A search by Optuna's samplers that pauses trials at rungs and promotes the best of them.

For Optuna, a paused trial is pruned and has an attribute `paused`, the number of its reports. Its
promotion is another trial with the same values and an attribute `goal`, the number of reports at
which it pauses next. Everything is derived from the study: several commands decide alike, and a
command that is killed loses nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from .optuna_search import OptunaSearch, attempts, counting, inherited, is_waiting, state_of
from .plan import Plan
from .promotion import ENDLESS, PROMOTE, Rungs, Standing, read_options, startup_trials
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
        # Of trials that have ended.
        self._ended: dict[int, Standing] = {}

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
        with self._lock.held():
            if steps[self._goal(trial.user_attrs)] <= step < steps[-1]:
                # Recorded before the value: whoever finds a value at a rung finds the decision.
                verdict = self._decide(trial, step, value)
            trial.report(value, step)
        return verdict

    def is_finished(self) -> bool:
        """Whether `n_trials` configurations have ended, and none of them is to be promoted."""
        is_over = self.ended_by() is not None or self._promotable(self._trials()) is None
        return is_over and super().is_finished()

    def _decide(self, trial: optuna.Trial, step: int, value: float) -> Verdict:
        trials = self._trials()
        own = trials[trial.number]
        losses = self.rungs.losses(_reports(own, trials) | {step: value})
        standing = replace(self._standing(own, trials), state=State.PAUSED, losses=losses)
        if self._promotable(trials, standing) is own:
            trial.set_user_attr("goal", self.rungs.steps[self.rungs.reached(step)])
            return Verdict.CONTINUE
        trial.set_user_attr("paused", step)
        return Verdict.PAUSE

    def _next(self, trials: Sequence[FrozenTrial]) -> optuna.Trial | None:
        """Promote a paused trial, or else start a queued or a new configuration."""
        paused = self._promotable(trials)
        if paused is None:
            is_busy = any(trial.state == TrialState.RUNNING for trial in trials)
            must_wait = is_busy and not is_waiting(trials) and self._is_short(trials)
            return None if must_wait else super()._next(trials)
        goal = self.rungs.steps[len(self._standing(paused, trials).losses)]
        more = {"goal": goal, "holder": self.holders.id}
        about: dict[str, Any] = {"params": paused.params, "distributions": paused.distributions}
        about |= {"user_attrs": inherited(paused) | more, "state": TrialState.RUNNING}
        # Not queued: it would come after everything that is queued already.
        self.study.add_trial(create_trial(**about))
        trials = self._trials()
        own = [t for t in trials if t.user_attrs.get("holder") == self.holders.id]
        ids = [t._trial_id for t in own if t.user_attrs.get("earlier", [])[:1] == [paused.number]]
        return optuna.Trial(self.study, ids[-1])

    def _is_too_many(self, number: int) -> bool:
        """Whether another command, on a database without our lock, was faster."""
        trials = self._trials()
        paused = set(trials[number].user_attrs.get("earlier", ())[:1])
        others = [t for t in trials[:number] if not t.user_attrs.get("withdrawn")]
        is_taken = any(paused & set(trial.user_attrs.get("earlier", ())) for trial in others)
        return is_taken or super()._is_too_many(number)

    def _try_again(self, number: int, state: State) -> None:
        """Queue the configuration again, unless it was stopped when it had to pause anyway."""
        trial = self._trials()[number]
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

    def _promotable(
        self, trials: Sequence[FrozenTrial], reporting: Standing | None = None
    ) -> FrozenTrial | None:
        """The trial to promote next, of those that are paused and the one that reports."""
        known = {self._standing(trial, trials): trial for trial in counting(trials)}
        if reporting is not None:
            (before,) = (standing for standing in known if standing.number == reporting.number)
            known[reporting] = known.pop(before)
        is_busy = any(standing.state is State.RUNNING for standing in known)
        is_ending = not (is_busy or is_waiting(trials) or self._has_room(trials))
        is_ending = is_ending or self._is_short(trials)
        found = self.rungs.promotable(list(known), is_ending)
        return None if found is None else known[found]

    def _is_short(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether the epochs that are left are needed to train a first configuration completely."""
        epochs, steps = self.budgets.epochs, self.rungs.steps
        has_winner = any(trial.state == TrialState.COMPLETE for trial in trials)
        if epochs is None or has_winner or steps[-1] == ENDLESS:
            return False
        due = steps[-1] * self._trainings
        for trial in trials:
            if trial.state == TrialState.RUNNING:
                due += steps[self._goal(trial.user_attrs)] - max(_reports(trial, trials), default=0)
        return epochs - self.budgets.trained(trials) <= due

    def _standing(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> Standing:
        if trial.number in self._ended:
            return self._ended[trial.number]
        state, result = state_of(trial), trial.values[0] if trial.values else None
        reports = {} if state is State.FAILED else _reports(trial, trials)
        losses = self.rungs.losses(reports, result if state is State.FINISHED else None)
        is_feasible = all(excess <= 0 for excess in self._excesses(trial, trials).values())
        standing = Standing(attempts(trial, trials)[-1].number, state, losses, is_feasible)
        if trial.state.is_finished():
            self._ended[trial.number] = standing
        return standing

    def _excesses(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> dict[str, float]:
        """By how much a configuration exceeds each limit; empty if nothing has been measured."""
        found = (attempt.user_attrs.get("metrics") for attempt in attempts(trial, trials))
        return next((excesses(metrics, self.limits) for metrics in found if metrics), {})

    def _learn(self, number: int, least: int) -> tuple[int, list[FrozenTrial]]:
        """The number of configurations before a trial, and what its sampler learns from.

        These are the configurations at the highest rung with at least `least` of them. Others that
        are running are included without a value, so that none is proposed twice.
        """
        trials = self._trials()
        known = {self._standing(t, trials): t for t in counting(trials) if t.number != number}
        rung = self.rungs.informative(list(known), least)
        sign = -1 if self.rungs.mode == "max" else 1
        lessons = []
        for standing, trial in known.items():
            drawn = next((t for t in attempts(trial, trials) if t.params), trial)
            about: dict[str, Any] = {"params": drawn.params, "distributions": drawn.distributions}
            excess = self._excesses(trial, trials)
            if len(standing.losses) > rung and bool(excess) == bool(self.limits):
                about["constraints"] = {n: e for n, e in excess.items() if math.isfinite(e)}
                lessons.append(create_trial(value=sign * standing.losses[rung], **about))
            elif standing.state is State.RUNNING and drawn.params:
                lessons.append(create_trial(state=TrialState.RUNNING, **about))
        return sum(standing.number < number for standing in known), lessons


def _reports(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> dict[int, float]:
    """The reports of a configuration: a resumed trial repeats them only once it runs."""
    reports: dict[int, float] = {}
    for attempt in reversed(attempts(trial, trials)):
        reports |= attempt.intermediate_values
    return reports


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
