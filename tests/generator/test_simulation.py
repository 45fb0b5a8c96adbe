"""The simulated clock of the benchmark of search methods."""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks.simulation import Job, Tuner, simulate


class Fixed(Tuner):
    """Trains configurations 0, 1, 2 ... for two epochs each, and every second one to its end."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def ask(self, worker: int) -> Job:
        """The next configuration."""
        self.asked.append(worker)
        return Job(len(self.asked) - 1, {"number": len(self.asked) - 1})

    def report(self, job: Job, is_last: bool) -> bool:
        """Continue with even configurations until they end."""
        return not is_last and (len(job.values) < 2 or job.key % 2 == 0)


def curve(params: Mapping[str, Any]) -> list[float]:
    """Grows by 1 an epoch, from ten times the number of the configuration."""
    return [10.0 * params["number"] + epoch for epoch in (1, 2, 3)]


def test_one_worker_trains_one_epoch_at_a_time() -> None:
    """Regret would be plotted over epochs that nobody trained."""
    best = simulate(Fixed(), curve, 1, 7)
    assert best == [-math.inf, 1, 2, 3, 11, 12, 21, 22]


def test_a_free_worker_asks_at_once() -> None:
    """A worker that waits for the others would make every method with several workers worse."""
    tuner = Fixed()
    best = simulate(tuner, curve, 2, 8)
    # Configuration 1 ends after two epochs; 0, and then 2 on the second worker, after three.
    assert tuner.asked == [0, 1, 1, 0]
    assert best == [-math.inf, 11, 12, 21, 31]
