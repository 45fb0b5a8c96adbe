"""The trials of a sweep under Ray Tune, in an Optuna study like those of every other engine."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from optuna.trial import FrozenTrial

from ..figures import ACCENT, FAINT, Figure, label, styled
from ..leaderboard import best_trials
from ..optuna_search import OptunaSearch, suggest
from ..space import is_same_point
from ..types import State, TrialOutcome, TrialRecord, Unit, Value
from .trial import OPEN, Update

if TYPE_CHECKING:
    from plotly.graph_objects import Figure as Plot

# Attributes of a trial: its number at Ray Tune, and what a population's trial reported in an epoch.
NUMBER = "tune"
EPOCH = "epoch "
# Of the study: what pruned trials measured, by Ray Tune's numbers.
PRUNED = "pruned"


class TuneStudy(OptunaSearch):
    """Records the trials in a study; Ray Tune proposes and prunes them.

    The number of a trial is the one that Ray Tune gave it, which names its folder. A trial that
    continues under another command is another one of the study, and supersedes the first. So does
    one of another point: after a kill Ray Tune may have forgotten how its numbers were used.

    Attributes:
        schedules: the options that change while a trial trains.
        unit: what the reports of a trial count.
    """

    schedules: Sequence[str] = ()
    unit: Unit = Unit.EPOCH

    def join(
        self, sampler: Mapping[str, Any], pruner: Mapping[str, Any], seed: int | None
    ) -> int | None:
        """Take a lease on the study, with algorithms that do nothing."""
        seed = super().join({"name": "random"}, {"name": "none"}, seed)
        # A kill between two lines of `begin` leaves one.
        while self._look().waiting:
            self._withdraw(self.study.ask())
        self._numbers = {number: trial.number for number, trial in self._current().items()}
        return seed

    def lay_out(self, points: Sequence[Mapping[str, Value]]) -> int:
        """Ray Tune has its own queue."""
        return 0

    def begin(self, number: int, params: dict[str, Value]) -> None:
        """A trial starts, or continues what an earlier command started."""
        known = self._numbers.get(number)
        if known in self._running:
            return
        attributes: dict[str, Any] = {NUMBER: number, "holder": self.holders.id}
        steps: dict[int, float] = {}
        with self._lock.held():
            before = None if known is None else self._look().trials[known]
            if before is not None:
                attributes["earlier"] = [known, *before.user_attrs.get("earlier", ())]
                if self._continues(before, params):
                    steps = before.intermediate_values
                    attributes |= dict(_epochs(before))
            attributes["version"] = self.version
            self.study.enqueue_trial(self.space.with_texts(params), user_attrs=attributes)
            trial = self.study.ask()
            self.space.sample(lambda parameter: suggest(trial, parameter))
            if before is not None and not before.state.is_finished():
                self._finish(before.number, State.FAILED, [])
        for step, value in steps.items():
            trial.report(value, step)
        self._numbers[number] = trial.number
        self._running[trial.number] = trial

    def is_running(self, number: int) -> bool:
        """Whether a trial has begun and not ended."""
        return self._numbers.get(number) in self._running

    def add(self, update: Update) -> None:
        """Record what a trial reported."""
        number = self._numbers[update.number]
        trial = self._running[number]
        trial.set_user_attr("worker", update.worker)
        if update.value is not None:
            self.report(number, update.epoch, update.value)
        if update.value is not None and self.schedules:
            facts = {"value": update.value, "params": update.params, "copied": update.copied}
            trial.set_user_attr(f"{EPOCH}{update.epoch}", facts)
            trial.set_user_attr("params", update.params)
        if update.state is not OPEN:
            outcome = TrialOutcome(update.state, update.metrics or {}, update.error)
            self.end(update.number, outcome)

    def end(self, number: int, outcome: TrialOutcome) -> None:
        """Record how a trial ended."""
        self.tell(self._numbers[number], outcome)

    def add_pruned(self, metrics: Mapping[int, dict[str, float]]) -> None:
        """Record what pruned trials measured, which they tell after their end."""
        known = self.recall(PRUNED)
        self.remember(PRUNED, known | {str(number): found for number, found in metrics.items()})

    def ended(self) -> dict[int, TrialRecord]:
        """The trials that have ended, by Ray Tune's numbers."""
        return {r.number: r for r in self.records() if r.state is not OPEN}

    def records(self) -> list[TrialRecord]:
        """The trials, with Ray Tune's numbers; those of an earlier command are stopped."""
        trials = self._current()
        pruned = self.recall(PRUNED)
        by_number = {record.number: record for record in super().records()}
        return [
            self._changed(number, by_number[trials[number].number], trials[number], pruned)
            for number in sorted(trials)
        ]

    def figures(self) -> Iterator[Figure]:
        """How the options of each trial of a population changed."""
        best = {record.number for record in best_trials(self.records(), self.objectives)}
        trials = self._current()
        for key in self.schedules:
            yield Figure(
                f"Schedule of {key}",
                f"The value in each {self.unit}; a jump is where a trial continued from a better "
                "one. The best trial is blue.",
                _plot({n: _schedule(trials[n], key) for n in trials}, key, best, self.unit),
            )

    def _current(self) -> dict[int, FrozenTrial]:
        """The trials that no other has superseded, by Ray Tune's numbers."""
        by_number = {r.number: r for r in super().records()}
        return {
            trial.user_attrs[NUMBER]: trial
            for trial in self.census.trials
            if not by_number[trial.number].superseded
        }

    def _continues(self, trial: FrozenTrial, params: Mapping[str, Value]) -> bool:
        """Whether a point is that of a trial, whose options may change in a population."""
        if trial.state.is_finished():
            return False
        return bool(self.schedules) or is_same_point(self.space.with_values(trial.params), params)

    def _changed(
        self, number: int, record: TrialRecord, trial: FrozenTrial, pruned: Mapping[str, Any]
    ) -> TrialRecord:
        """A record with what the study itself does not hold."""
        epochs = {int(name.removeprefix(EPOCH)): facts["value"] for name, facts in _epochs(trial)}
        return replace(
            record,
            number=number,
            state=OPEN if record.state is State.RUNNING else record.state,
            params=trial.user_attrs.get("params", record.params),
            # A trial that continued from one behind it has trained some epochs again.
            steps=dict(sorted((record.steps | epochs).items())),
            metrics=record.metrics or pruned.get(str(number), {}),
        )

    def _withdraw(self, trial: Any) -> None:
        trial.set_user_attr("withdrawn", True)
        self._finish(trial.number, State.FAILED, [])


def _epochs(trial: FrozenTrial) -> Iterator[tuple[str, Any]]:
    """The attributes that hold what a trial of a population reported."""
    return ((name, facts) for name, facts in trial.user_attrs.items() if name.startswith(EPOCH))


def _schedule(trial: FrozenTrial, key: str) -> dict[int, Value]:
    """The values of an option by epochs or validations."""
    found = {
        int(name.removeprefix(EPOCH)): facts["params"][key]
        for name, facts in _epochs(trial)
        if key in facts["params"]
    }
    return dict(sorted(found.items()))


def _plot(
    schedules: Mapping[int, Mapping[int, Value]], key: str, best: set[int], unit: Unit
) -> "Plot":
    from plotly.graph_objects import Figure as Plot

    plot = Plot()
    # The best last: on top of the others.
    for number in sorted(schedules, key=lambda number: number in best):
        is_best = number in best
        plot.add_scatter(
            x=list(schedules[number]),
            y=list(schedules[number].values()),
            mode="lines",
            line={
                "color": ACCENT if is_best else FAINT,
                "width": 3 if is_best else 1,
                "shape": "vh",
            },
            opacity=1 if is_best else 0.6,
            name=f"trial {number}",
            showlegend=is_best,
        )
    seen = [value for schedule in schedules.values() for value in schedule.values()]
    numbers = [value for value in seen if not isinstance(value, str)]
    if len(numbers) == len(seen) and min(numbers) > 0 and max(numbers) > 20 * min(numbers):
        plot.update_yaxes(type="log")
    plot.update_layout(xaxis_title=str(unit), yaxis_title=label(key))
    return styled(plot)
