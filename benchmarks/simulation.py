"""Sweeps without training: workers on a simulated clock, and the searches that they work for.

Every epoch takes one unit of time on every worker, and a pause takes none. A worker that is free
asks at once, so a search with several workers proposes before it has seen what is still running.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from .common import Project

METRIC = "val/accuracy"
# Beyond any budget: a simulation ends by its epochs.
ENDLESS = 10**6


@dataclass
class Job:
    """A configuration on a worker.

    Attributes:
        key: what the search knows it by.
        params: its values by the names of the options.
        values: the objective after each epoch that it has been trained for.
    """

    key: Any
    params: Mapping[str, Any]
    values: list[float] = field(default_factory=list)


class Tuner(ABC):
    """What proposes configurations, and decides how long each is trained."""

    @abstractmethod
    def ask(self, worker: int) -> Job | None:
        """What a free worker trains next; None if it has to wait for the others."""

    @abstractmethod
    def report(self, job: Job, is_last: bool) -> bool:
        """Take note of the job's latest value; whether the worker continues with it.

        Args:
            job: with the latest value.
            is_last: whether its training is complete.
        """


def simulate(
    tuner: Tuner,
    curve: Callable[[Mapping[str, Any]], Sequence[float]],
    workers: int,
    epochs: int,
) -> list[float]:
    """The best value after 0, 1, 2 ... units of time, in each of which a worker trains an epoch.

    Args:
        tuner: the search.
        curve: the value after each epoch of a complete training.
        workers: their number.
        epochs: how many are trained in all; an idle worker's time counts as well.

    Raises:
        RuntimeError: all workers wait.
    """
    jobs: list[tuple[Job, Sequence[float]] | None] = [None] * workers
    best = [-math.inf]
    for _ in range(epochs // workers):
        for worker in range(workers):
            if jobs[worker] is None and (job := tuner.ask(worker)) is not None:
                jobs[worker] = (job, curve(job.params))
        if not any(jobs):
            raise RuntimeError("All workers wait for one another: the search is stuck.")
        found = best[-1]
        for worker, running in enumerate(jobs):
            if running is None:
                continue
            job, values = running
            value = float(values[len(job.values)])
            found = max(found, value)
            job.values.append(value)
            if not tuner.report(job, len(job.values) == len(values)):
                jobs[worker] = None
        best.append(found)
    return best


class OwnSearch(Tuner):
    """The project's own search, with a study in memory.

    Args:
        project: a baked project.
        folder: an empty folder for the study's lock.
        space: the search space.
        sampler: a file name of `configs/hydra/sweeper/sampler/`.
        pruner: a file name of `configs/hydra/sweeper/pruner/`.
        seed: of the sweep.
        length: number of epochs of a complete training.
    """

    def __init__(
        self,
        project: Project,
        folder: Path,
        space: Any,
        sampler: str,
        pruner: str,
        seed: int,
        length: int,
    ) -> None:
        import optuna

        self.types = project.library("sweeps.types")
        storage = project.library("sweeps.storage")
        searches = project.library("sweeps.optuna_search")
        options = read_options(project, "pruner", pruner)
        objectives = [self.types.Objective(METRIC, "max")]
        # Optuna's Hyperband assigns brackets by the name.
        study = searches.open_study(optuna.storages.InMemoryStorage(), f"seed {seed}", objectives)
        kind = search_class(project, pruner, options, length)
        lock = storage.FileLock(folder / "study.lock")
        self.search = kind(study, space, objectives, ENDLESS, 0, {}, lock)
        self.search.join(read_options(project, "sampler", sampler), options, seed)
        self._paused: dict[int, list[float]] = {}

    def ask(self, worker: int) -> Job | None:
        """A new trial, or one that was paused, which repeats its reports as a real one does."""
        trial = self.search.ask(str(worker))
        if trial is None:
            return None
        job = Job(trial.number, trial.params)
        if trial.earlier:
            job.values = self._paused.pop(trial.earlier[0])
        for step, value in enumerate(job.values, 1):
            self.search.report(trial.number, step, value)
        return job

    def report(self, job: Job, is_last: bool) -> bool:
        """Follow the verdict, and tell how the trial ended."""
        verdict = self.search.report(job.key, len(job.values), job.values[-1]).name
        if is_last:
            state = self.types.State.FINISHED
        elif verdict == "CONTINUE":
            return True
        else:
            state = {"PRUNE": "pruned", "PAUSE": "paused"}[verdict]
        if verdict == "PAUSE":
            self._paused[job.key] = job.values
        metrics = {METRIC: max(job.values)}
        self.search.tell(job.key, self.types.TrialOutcome(self.types.State(state), metrics))
        return False


def search_class(project: Project, pruner: str, options: Mapping[str, Any], length: int) -> Any:
    """What `hydra/sweeper/pruner=<name>` searches with, called as `OptunaSearch` is."""
    if pruner != "promote":
        return project.library("sweeps.optuna_search").OptunaSearch
    promotion = project.library("sweeps.promotion")
    found = promotion.read_options(options)
    rungs = promotion.Rungs.between(found["min_epochs"], length, found["factor"], "max")
    kind = project.library("sweeps.promoting_search").PromotingSearch
    startup = promotion.startup_trials(found["n_startup_trials"], ENDLESS)
    return partial(kind, rungs=rungs, n_startup_trials=startup)


def read_options(project: Project, kind: str, name: str) -> dict[str, Any]:
    """The options of a sampler or a pruner, from its config file."""
    from omegaconf import OmegaConf

    file = project.root / "configs" / "hydra" / "sweeper" / kind / f"{name}.yaml"
    options = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    assert isinstance(options, dict)
    return {str(key): value for key, value in options.items()}


class OptunaDefaults(Tuner):
    """A study as `optuna.create_study()` makes it: TPE and the median pruner."""

    def __init__(self, distributions: Mapping[str, Any], seed: int) -> None:
        import optuna

        sampler = optuna.samplers.TPESampler(seed=seed)
        self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.distributions = dict(distributions)

    def ask(self, worker: int) -> Job:
        """A new trial."""
        trial = self.study.ask(self.distributions)
        return Job(trial, trial.params)

    def report(self, job: Job, is_last: bool) -> bool:
        """Prune the trial, or tell its best value at the end."""
        from optuna.trial import TrialState

        job.key.report(job.values[-1], len(job.values))
        if is_last:
            self.study.tell(job.key, max(job.values))
        elif job.key.should_prune():
            self.study.tell(job.key, state=TrialState.PRUNED)
        else:
            return True
        return False
