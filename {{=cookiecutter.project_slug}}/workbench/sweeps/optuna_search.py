"""A search by Optuna: a study that several commands may share and any later command continues.

A trial whose process or command died is told as failed, and a new trial with the same values
replaces it. The former is `superseded` and does not count. For Optuna, a trial that was stopped to
be resumed has failed as well, as there is no other state; the trial that resumes it records the
difference. The number of trials that count never exceeds `n_trials`, whatever the order in which
commands write.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import optuna
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from .automatic_pruner import kept
from .budgets import Budgets, Terminator, unimproved
from .census import STATES, Census, inherited, state_of
from .enqueue import TOO_MANY_POINTS, read_points
from .figures import Figure
from .identity import IDENTITIES, check_unused, join
from .optuna_engine import build_pruner, build_sampler
from .plan import Identity, Plan
from .space import Parameter, Space, options_of
from .storage import FileLock, LeaseHolders, open_database, open_journal
from .thinning import LATEST, ThinnedSampler
from .types import (
    Next,
    Objective,
    State,
    Trial,
    TrialOutcome,
    TrialRecord,
    Unit,
    Value,
    Verdict,
    excesses,
)

log = logging.getLogger(__name__)

OPTUNA_STATES = {state: name for name, state in STATES.items()}
OPTUNA_STATES |= {State.STOPPED: TrialState.FAIL, State.PAUSED: TrialState.PRUNED}


S = TypeVar("S", bound="OptunaSearch")


class OptunaSearch:
    """Implements `Search` on an Optuna study.

    Args:
        study: from `open_study`.
        space: the search space.
        objectives: the metrics to optimize, the first one reported during training.
        n_trials: number of configurations to try, by all commands together.
        max_retries: number of retries of a configuration whose trial crashed.
        limits: the maximum of each limited metric.
        lock: held while trials are counted and started.
        version: index of the study's identity for new trials.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: Space,
        objectives: Sequence[Objective],
        n_trials: int,
        max_retries: int,
        limits: Mapping[str, float],
        lock: FileLock,
        version: int = 0,
    ) -> None:
        self.study = study
        self.version = version
        self.space = space
        self.objectives = objectives
        self.n_trials = n_trials
        self.max_retries = max_retries
        self.limits = limits
        self.budgets = Budgets()
        self.census = Census()
        self.holders = LeaseHolders(study)
        self.folder = lock.path.parent
        self._lock = lock
        self._running: dict[int, optuna.Trial] = {}
        # The numbers of trials, and of ended configurations, when `_unimproved` was computed.
        self._without_gain: tuple[tuple[int, int], int] = ((0, 0), 0)

    def join(
        self, sampler: Mapping[str, Any], pruner: Mapping[str, Any], seed: int | None
    ) -> int | None:
        """Take a lease, and set up sampler and pruner; return the seed of this command."""
        with self._lock.held():
            earlier = self.holders.join()
        # With the same seed, a continued study would propose its first configurations again.
        seed = None if seed is None else (seed + 1_000_003 * earlier) % 2**32
        self.study.sampler = build_sampler(dict(sampler), seed)
        # With several objectives, TPE divides the trials in another way.
        if isinstance(self.study.sampler, TPESampler) and len(self.objectives) == 1:
            latest = max(LATEST, int(sampler.get("n_startup_trials", 0)))
            self.study.sampler = ThinnedSampler(self.study.sampler, latest)
        self.study.pruner = build_pruner(dict(pruner))
        return seed

    def lay_out(self, points: Sequence[Mapping[str, Value]]) -> int:
        """Queue configurations to try first, each once, also over several commands.

        Returns:
            The number of configurations in excess of `n_trials`.
        """
        with self._lock.batch(), self._lock.held():
            census = self._look()
            laid = {tuple(trial.user_attrs.get("point", ())) for trial in census.counting}
            wanted = {tuple(options_of(point)): point for point in points}
            left = [options for options in wanted if options not in laid]
            room = max(0, self.n_trials - len(census))
            for options in left[:room]:
                params = self.space.with_texts(wanted[options])
                self.study.enqueue_trial(params, user_attrs={"point": options})
        return len(left[room:])

    def ask(self, worker: str) -> Trial | None:
        """The next trial: a queued configuration, or a new one."""
        with self._lock.batch():
            if (trial := self._start(worker)) is None:
                return None
            params = self.space.sample(lambda parameter: suggest(trial, parameter))
        self._running[trial.number] = trial
        earlier = trial.user_attrs.get("earlier", ())
        # A checkpoint of other options or other data must not be resumed with these.
        versions = {n: self.census.trials[n].user_attrs.get("version", 0) for n in earlier}
        same = tuple(number for number in earlier if versions[number] == self.version)
        return Trial(trial.number, params, same)

    def _start(self, worker: str) -> optuna.Trial | None:
        with self._lock.held():
            self._take_over_orphans()
            trial = None if self._ended_by() else self._next()
            if trial is None:
                return None
            trial.set_user_attr("holder", self.holders.id)
            trial.set_user_attr("worker", worker)
            trial.set_user_attr("version", self.version)
            if self._is_too_many(trial.number):
                trial.set_user_attr("withdrawn", True)
                self._finish(trial.number, State.FAILED, [])
                return None
            return trial

    def repeat(self, number: int, first: int, last: int) -> None:
        """Note that these reports are repeated; before the first of them."""
        trial = self._running[number]
        known = trial.user_attrs.get("repeated", [])
        if not known or known[-1][1] < last:
            trial.set_user_attr("repeated", [*known, [first, last]])

    def report(self, number: int, step: int, value: float) -> Verdict:
        """Record a value; the verdict is that of the pruner."""
        trial = self._running[number]
        if len(self.objectives) > 1:
            # Optuna cannot prune with several objectives.
            return Verdict.CONTINUE
        with self._lock.batch():
            trial.report(value, step)
            return Verdict.PRUNE if trial.should_prune() else Verdict.CONTINUE

    def tell(self, number: int, outcome: TrialOutcome) -> Next:
        """Record how a trial ended, and queue its configuration again if that may help."""
        with self._lock.batch():
            return self._tell(number, outcome)

    def _tell(self, number: int, outcome: TrialOutcome) -> Next:
        trial = self._running.pop(number)
        trial.set_user_attr("metrics", outcome.metrics)
        values = [outcome.metrics.get(objective.metric, math.nan) for objective in self.objectives]
        for metric, excess in excesses(outcome.metrics, self.limits).items():
            if math.isfinite(excess):
                trial.set_constraint(metric, excess)
        if outcome.error:
            trial.set_user_attr("error", outcome.error)
        if outcome.state is State.STOPPED:
            self._try_again(number, State.STOPPED)
            return Next.RESUME
        crashes = 1 + trial.user_attrs.get("crashes", 0)
        if outcome.retry and crashes <= self.max_retries:
            trial.set_user_attr("crashes", crashes)
            self._try_again(number, State.FAILED)
            return Next.RETRY
        self._finish(number, outcome.state, values)
        return Next.PAUSE if outcome.state is State.PAUSED else Next.NOTHING

    def tick(self) -> None:
        """Renew the lease."""
        self.holders.renew()

    def is_finished(self) -> bool:
        """Whether `n_trials` trials have ended, or a budget is used up and none is running."""
        census = self._look()
        if self._ended_by() is not None:
            return census.superseded >= census.running.keys()
        return census.ended >= self.n_trials

    def trained(self) -> int:
        """The number of epochs that all trials have trained and reported."""
        self._look()
        return self.budgets.trained

    def ended_by(self) -> str | None:
        """Which budget is used up."""
        self._look()
        return self._ended_by()

    def _ended_by(self) -> str | None:
        budgets, prefix = self.budgets, "hydra.sweeper"
        if budgets.epochs is not None and budgets.trained >= budgets.epochs:
            return f"{prefix}.epochs={budgets.epochs} is used up"
        if budgets.patience is not None and self._unimproved() >= budgets.patience:
            return f"no improvement in {budgets.patience} trials ({prefix}.patience)"
        judge = budgets.terminator
        if judge is not None and judge.has_converged(self.study, self.census.trials):
            return f"Optuna expects no further improvement ({prefix}.terminator)"
        return None

    def records(self) -> list[TrialRecord]:
        """All trials so far, without queued ones that will resume a stopped one."""
        census = self._look()
        queued = census.queued
        replaced = census.superseded - set(queued.values())
        return [
            _record(
                trial,
                State.STOPPED if trial.number in census.stopped else state_of(trial),
                trial.number in replaced,
                self.space,
                self.limits,
            )
            for trial in census.trials
            if trial.number not in queued
        ]

    def figures(self) -> Iterator[Figure]:
        """None in addition to those of the report."""
        yield from ()

    def remember(self, name: str, value: dict[str, Any]) -> None:
        """Store a value in the study."""
        self.study.set_user_attr(name, value)

    def recall(self, name: str) -> dict[str, Any]:
        """A stored value; empty if there is none."""
        return self.study.user_attrs.get(name, {})

    def close(self) -> None:
        """Release the lease."""
        self.holders.leave()

    def _look(self) -> Census:
        """The present trials."""
        self._note(self.census.update(self.study.get_trials(deepcopy=False)))
        return self.census

    def _note(self, changed: Sequence[FrozenTrial]) -> None:
        """Take note of trials that are new or have changed."""
        self.budgets.note(changed, self.census)

    def _unimproved(self) -> int:
        """The number of trials without improvement, computed when one has started or ended."""
        now = len(self.census.trials), self.census.ended
        if self._without_gain[0] != now:
            self._without_gain = now, unimproved(self.records(), self.objectives)
        return self._without_gain[1]

    def _next(self) -> optuna.Trial | None:
        """Start a queued configuration or a new one, called with the lock held."""
        return self.study.ask() if self.census.waiting or self._has_room() else None

    def _has_room(self) -> bool:
        return len(self.census) < self.n_trials and self._ended_by() is None

    def _is_too_many(self, number: int) -> bool:
        """Whether another command, on a database without our lock, has started the last trial."""
        if number < self.n_trials:
            return False
        superseded = self._look().superseded
        return number - sum(other < number for other in superseded) >= self.n_trials

    def _take_over_orphans(self) -> None:
        """Queue the trials of commands that have died; look at the study."""
        running = self._look().running
        others = [trial for number, trial in running.items() if number not in self._running]
        holders = {trial.user_attrs.get("holder") for trial in others}
        dead = {h for h in holders if h == self.holders.id or not self.holders.is_alive(h)}
        for trial in others:
            if trial.user_attrs.get("holder") in dead:
                self._try_again(trial.number, State.STOPPED)
        if dead:
            self._look()

    def _try_again(self, number: int, state: State) -> None:
        """Queue the same configuration under another number, as a trial can be told only once."""
        with self._lock.held():
            broken = self._look().trials[number]
            if broken.state.is_finished():
                # Another command took the trial over while this one was suspended.
                return
            # Queued before it is told, so that a kill in between loses nothing.
            if number not in self.census.superseded:
                params = broken.system_attrs.get("fixed_params", {}) | broken.params
                kept = inherited(broken)
                stopped = [number] if state is State.STOPPED else []
                kept["stopped"] = [*stopped, *broken.user_attrs.get("stopped", ())]
                self.study.enqueue_trial(params, user_attrs=kept)
            self._finish(number, state, [])

    def _finish(self, number: int, state: State, values: list[float]) -> None:
        told = values if state == State.FINISHED else None
        try:
            self.study.tell(number, told, OPTUNA_STATES[state], skip_if_finished=True)
        except RuntimeError:
            # When a finite space is exhausted, Optuna tells the trial and then fails to stop a loop
            # that is not its own.
            if not self._look().trials[number].state.is_finished():
                raise


def open_search(plan: Plan, kind: Callable[[Plan], Callable[..., S]]) -> S:
    """Open and join the study of a sweep, and queue the configurations to try first.

    Args:
        plan: of the sweep.
        kind: for the plan with its final pruner, a class with the arguments of `OptunaSearch`.

    Raises:
        UserError: the database cannot be opened, or the command differs from the study.
    """
    space, objectives, url = plan.space, plan.objectives, plan.settings.storage
    if url is None and not (plan.folder / "journal.log").exists():
        check_unused(plan.folder)
    lock = FileLock(plan.folder / "study.lock")
    storage = open_journal(plan.folder, lock) if url is None else open_database(url)
    with lock.held():
        study = open_study(storage, plan.name, objectives)
        is_new = IDENTITIES not in study.user_attrs
        version = _join_study(study, plan)
        plan = kept(plan, study, is_new)
    settings = plan.settings
    n_trials, max_retries, limits = plan.n_trials, settings.max_retries, settings.limits
    about = (study, space, objectives, n_trials, max_retries, limits, lock, version)
    search = kind(plan)(*about)
    every = getattr(plan.trainer, "check_val_every_n_epoch", 1)
    terminator = Terminator() if settings.terminator else None
    search.budgets = Budgets(
        epochs=settings.epochs,
        patience=settings.patience,
        terminator=terminator,
        every=every if plan.unit is Unit.EPOCH else 1,
        deadline=time.monotonic() + (settings.timeout or math.inf),
    )
    pruner = settings.pruner if len(objectives) == 1 else {"name": "none"}
    search.join(settings.sampler, pruner, plan.seed)
    left = search.lay_out(plan.points or read_points(settings.enqueue, space))
    if left and plan.points is None:
        log.warning(TOO_MANY_POINTS, left, n_trials)
    return search


def open_study(storage: BaseStorage, name: str, objectives: Sequence[Objective]) -> optuna.Study:
    """Create the study, or load the one of this name."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
    directions = [ways[objective.mode] for objective in objectives]
    return optuna.create_study(
        study_name=name, storage=storage, directions=directions, load_if_exists=True
    )


def _join_study(study: optuna.Study, plan: Plan) -> int:
    """Compare the command with the study; return the index of its identity.

    Raises:
        UserError: the command differs from the study.
    """
    assert plan.identity is not None
    stored = study.user_attrs.get(IDENTITIES, {}).get("all", [])
    known = [Identity(**entry) for entry in stored]
    version = join(known, plan.identity, plan)
    if len(known) > len(stored):
        study.set_user_attr(IDENTITIES, {"all": [asdict(identity) for identity in known]})
    return version


def suggest(trial: optuna.Trial, parameter: Parameter) -> Value:
    """The value of a parameter in a trial of the study."""
    key = parameter.key
    if parameter.choices is not None:
        # Optuna would merge choices that compare equal: 1, 1.0 and true.
        choice = trial.suggest_categorical(key, list(parameter.by_text))
        return parameter.by_text[str(choice)]
    low, high, step, log = parameter.low, parameter.high, parameter.step, parameter.log
    if parameter.is_integer:
        return trial.suggest_int(key, round(low), round(high), step=round(step or 1), log=log)
    return trial.suggest_float(key, low, high, step=step, log=log)


def _record(
    trial: FrozenTrial, state: State, superseded: bool, space: Space, limits: Mapping[str, float]
) -> TrialRecord:
    metrics = trial.user_attrs.get("metrics", {})
    return TrialRecord(
        number=trial.number,
        state=state,
        params=space.with_values(trial.params),
        values=tuple(trial.values) if trial.state == TrialState.COMPLETE else (),
        steps=trial.intermediate_values,
        metrics=metrics,
        started=trial.datetime_start,
        ended=trial.datetime_complete,
        worker=trial.user_attrs.get("worker", ""),
        error=trial.user_attrs.get("error", ""),
        constraints=excesses(metrics, limits) if metrics else {},
        superseded=superseded,
        version=trial.user_attrs.get("version", 0),
    )
