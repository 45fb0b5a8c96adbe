"""What follows from all trials of a study, for studies of thousands of trials.

A trial that has ended never changes, and Optuna replaces any other one by a copy when it changes.
So each look at a study only reads the trials that are new or have changed.
"""

from collections.abc import Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from .types import State

STATES = {
    TrialState.WAITING: State.WAITING,
    TrialState.RUNNING: State.RUNNING,
    TrialState.COMPLETE: State.FINISHED,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
}
# Attributes that a trial passes on to the one that replaces it.
KEPT = ("point", "crashes", "goal")


class Census:
    """The trials of a study as of the last update.

    Attributes:
        trials: all of them, by their numbers.
        waiting: the queued ones, by their numbers; these come before new configurations.
        running: by their numbers.
        superseded: numbers of the trials that others have replaced, or that do not count.
        stopped: numbers of the trials that were stopped to be resumed.
        heirs: number of the first trial that resumed a trial, by the number of the latter.
    """

    def __init__(self) -> None:
        self.trials: Sequence[FrozenTrial] = ()
        self.waiting: dict[int, FrozenTrial] = {}
        self.running: dict[int, FrozenTrial] = {}
        self.superseded: set[int] = set()
        self.stopped: set[int] = set()
        self.heirs: dict[int, int] = {}

    def update(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Look at all trials; return those that are new or have changed."""
        known = (*self.waiting.values(), *self.running.values())
        changed = [trials[old.number] for old in known if trials[old.number] is not old]
        changed += trials[len(self.trials) :]
        for trial in changed:
            attributes = trial.user_attrs
            self.superseded.update(attributes.get("earlier", ()))
            self.stopped.update(attributes.get("stopped", ()))
            for number in attributes.get("earlier", ())[:1]:
                self.heirs.setdefault(number, trial.number)
                if attributes.get("withdrawn") and self.heirs[number] == trial.number:
                    del self.heirs[number]
            if attributes.get("withdrawn"):
                self.superseded.add(trial.number)
            self.waiting.pop(trial.number, None)
            if trial.state == TrialState.RUNNING:
                self.running[trial.number] = trial
            else:
                self.running.pop(trial.number, None)
            if trial.state == TrialState.WAITING:
                self.waiting[trial.number] = trial
        self.trials = trials
        return changed

    def __len__(self) -> int:
        """The number of configurations; each has a single trial that no other has replaced."""
        return len(self.trials) - len(self.superseded)

    @property
    def counting(self) -> list[FrozenTrial]:
        """The last trial of each configuration."""
        return [trial for trial in self.trials if trial.number not in self.superseded]

    @property
    def ended(self) -> int:
        """The number of configurations whose trial has ended."""
        is_open = (number not in self.superseded for number in (*self.waiting, *self.running))
        return len(self) - sum(is_open)

    @property
    def queued(self) -> dict[int, int]:
        """Numbers of queued trials that will resume a stopped one, with the number of that one."""
        waiting = self.waiting.items()
        resumed = {number: trial.user_attrs.get("earlier", [-1])[0] for number, trial in waiting}
        return {number: old for number, old in resumed.items() if old in self.stopped}

    def attempts(self, trial: FrozenTrial) -> list[FrozenTrial]:
        """The trials of a configuration, the newest first."""
        return [trial, *(self.trials[number] for number in trial.user_attrs.get("earlier", ()))]


def inherited(trial: FrozenTrial) -> dict[str, Any]:
    """The attributes of a trial that replaces this one."""
    kept = {key: trial.user_attrs[key] for key in KEPT if key in trial.user_attrs}
    return kept | {"earlier": [trial.number, *trial.user_attrs.get("earlier", ())]}


def state_of(trial: FrozenTrial) -> State:
    """The state of a trial that was not stopped; for Optuna, a paused one is pruned."""
    is_paused = trial.state == TrialState.PRUNED and "paused" in trial.user_attrs
    return State.PAUSED if is_paused else STATES[trial.state]
