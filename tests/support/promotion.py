"""Searches with promotion: scripted learning curves, simulated workers, and the algorithm."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

LR = "optimizer.lr"
# The rungs of a training of 20 epochs: 2, 6, 18 and 20.
FIRST, FACTOR, EPOCHS = 2, 3, 20
RUNGS = [2, 6, 18, 20]
# Number of random configurations.
STARTUP = 10


def accuracy(lr: float, epoch: int) -> float:
    """A learning curve whose order at one epoch is only roughly that at another."""
    noise = int(hashlib.sha256(f"{lr!r} {epoch}".encode()).hexdigest()[:8], 16) / 2**32
    best = math.exp(-((math.log10(lr) + 2.5) ** 2))
    return best * (1 - math.exp(-epoch / 5)) + 0.05 * noise


def best_until(lr: float, epoch: int) -> float:
    """The best value of the first epochs."""
    return max(accuracy(lr, one) for one in range(1, epoch + 1))


class CommandKilledError(Exception):
    """The command dies after a report, before it answers."""


@dataclass
class Job:
    """A simulated training, and the epoch after which it was started or resumed."""

    trial: Any
    epoch: int


@dataclass
class Simulation:
    """Trains by `accuracy`, and counts what is trained.

    Attributes:
        saved: the epochs in the last checkpoint of each trial.
        trained: how often each epoch of each configuration was trained.
        legs: the learning rate, first and last epoch of every training in the order of their ends.
    """

    types: Any
    sign: int = 1
    stops_early: dict[float, int] = field(default_factory=dict)
    saved: dict[int, int] = field(default_factory=dict)
    trained: Counter[tuple[float, int]] = field(default_factory=Counter)
    legs: list[tuple[float, int, int]] = field(default_factory=list)
    reports_until_kill: int = 10**9

    def run(self, searches: list[Any], workers: int = 1) -> None:
        """Run commands with `workers` each to their end."""
        jobs: dict[tuple[int, int], Job] = {}
        places = [(one, worker) for worker in range(workers) for one in range(len(searches))]
        while True:
            for place in places:
                if place not in jobs and (trial := searches[place[0]].ask(str(place))) is not None:
                    jobs[place] = self.start(searches[place[0]], trial)
            if not jobs:
                assert all(search.is_finished() for search in searches)
                return
            for place in [place for place in places if place in jobs]:
                if self.step(searches[place[0]], jobs[place]):
                    del jobs[place]
                    # A free worker asks before others report.
                    trial = searches[place[0]].ask(str(place))
                    if trial is not None:
                        jobs[place] = self.start(searches[place[0]], trial)

    def start(self, search: Any, trial: Any) -> Job:
        """Start a trial, or resume it from the newest checkpoint and repeat its reports."""
        epoch = next((self.saved[n] for n in trial.earlier if n in self.saved), 0)
        for earlier in range(1, epoch + 1):
            search.report(trial.number, earlier, self.value(trial, earlier))
        return Job(trial, epoch)

    def step(self, search: Any, job: Job) -> bool:
        """Train an epoch; whether the trial has ended."""
        number, lr = job.trial.number, job.trial.params[LR]
        first = self.saved.get(number)
        job.epoch += 1
        self.trained[lr, job.epoch] += 1
        # Saved before it is reported, as in a real training.
        self.saved[number] = job.epoch
        verdict = search.report(number, job.epoch, self.value(job.trial, job.epoch))
        self.reports_until_kill -= 1
        if self.reports_until_kill == 0:
            raise CommandKilledError
        if first is None:
            self.legs.append((lr, job.epoch, job.epoch))
        else:
            self.legs = [
                (rate, begin, job.epoch) if (rate, end) == (lr, first) else (rate, begin, end)
                for rate, begin, end in self.legs
            ]
        is_last = job.epoch in (EPOCHS, self.stops_early.get(lr))
        if verdict is self.types.Verdict.CONTINUE and not is_last:
            return False
        state = "finished" if is_last else "paused"
        best = self.sign * best_until(lr, job.epoch)
        outcome = self.types.TrialOutcome(self.types.State(state), {"val/acc": best})
        decision = search.tell(number, outcome)
        assert decision.name == ("NOTHING" if is_last else "PAUSE")
        return True

    def value(self, trial: Any, epoch: int) -> float:
        """What a trial reports."""
        return self.sign * accuracy(trial.params[LR], epoch)


class Asha:
    """Algorithm 2 of the paper, with lists and sets, and the rule for the end of a sweep."""

    def __init__(self, new: Iterator[float], stops_early: dict[float, int]) -> None:
        self.new = new
        self.stops_early = stops_early
        self.rungs: list[dict[float, float]] = [{} for _ in RUNGS]
        self.promoted: list[set[float]] = [set() for _ in RUNGS]
        self.running: dict[int, tuple[float, int]] = {}
        self.legs: list[tuple[float, int, int]] = []

    def promotable(self, ready: set[float], is_ending: bool) -> tuple[float, int] | None:
        """The configuration to promote, and its rung."""
        for rung in (2, 1, 0):
            values = self.rungs[rung]
            count = len(values) // FACTOR
            if is_ending and values:
                count = max(count, 1)
            top = sorted(values, key=lambda lr: -values[lr])[:count]
            for lr in top:
                if lr not in self.promoted[rung] and lr in ready:
                    return lr, rung
        return None

    def run(self, workers: int) -> None:
        """Train in turns of one epoch."""
        ready: set[float] = set()
        left = True
        while True:
            for worker in range(workers):
                if worker not in self.running:
                    left = self.begin(worker, ready, left)
            if not self.running:
                return
            for worker in sorted(self.running):
                lr, epoch = self.running[worker][0], self.running[worker][1] + 1
                self.running[worker] = (lr, epoch)
                place = next(i for i, leg in enumerate(self.legs) if leg[0] == lr and leg[2] < 0)
                stops = epoch in (EPOCHS, self.stops_early.get(lr))
                if stops:
                    for rung, at in enumerate(RUNGS):
                        self.rungs[rung].setdefault(lr, best_until(lr, min(at, epoch)))
                        self.promoted[rung].add(lr)
                elif epoch in RUNGS:
                    rung = RUNGS.index(epoch)
                    self.rungs[rung][lr] = best_until(lr, epoch)
                    ending = not left and len(self.running) == 1
                    if self.promotable(ready | {lr}, ending) == (lr, rung):
                        self.promoted[rung].add(lr)
                        continue
                    ready.add(lr)
                else:
                    continue
                self.legs[place] = (*self.legs[place][:2], epoch)
                del self.running[worker]
                left = self.begin(worker, ready, left)

    def begin(self, worker: int, ready: set[float], left: bool) -> bool:
        """Give a worker something to do; whether new configurations are left."""
        found = self.promotable(ready, is_ending=not left and not self.running)
        if found is not None:
            lr, rung = found
            self.promoted[rung].add(lr)
            ready.remove(lr)
            self.running[worker] = (lr, RUNGS[rung])
            self.legs.append((lr, RUNGS[rung] + 1, -1))
        elif left:
            lr = next(self.new)
            self.running[worker] = (lr, 0)
            self.legs.append((lr, 1, -1))
            left = self.new.__length_hint__() > 0  # type: ignore[attr-defined]
        return left


def configurations(search: Any) -> list[float]:
    """The learning rates in the order of their proposals."""
    roots = [t for t in search.study.trials if not t.user_attrs.get("earlier")]
    return [trial.params[LR] for trial in roots]
