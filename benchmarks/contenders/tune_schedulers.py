"""Ray Tune's searchers and schedulers on a simulated clock: its classes, without Ray running.

The order of calls is that of `TuneController`, which keeps one trial of a searcher pending, and 200
random ones. This matters for HyperBand, which pauses a trial only if its bracket has others.
"""

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ..common import Project
from ..simulation import METRIC, Job, Tuner, read_options


@dataclass(eq=False)
class TuneTrial:
    """What schedulers know of a trial."""

    trial_id: str
    job: Job
    status: str
    last_result: dict[str, Any] = field(default_factory=dict)
    is_saving: bool = False


class TuneSearch(Tuner):
    """A searcher and a scheduler of Ray Tune, as `hydra/sweeper=ray` configures them.

    Args:
        project: a baked project.
        space: the search space.
        sampler: a file name of `configs/hydra/sweeper/sampler/`.
        pruner: a file name of `configs/hydra/sweeper/pruner/`.
        seed: of the searcher.
        length: number of epochs of a complete training.
    """

    def __init__(
        self, project: Project, space: Any, sampler: str, pruner: str, seed: int, length: int
    ) -> None:
        from ray.tune.experiment import Trial
        from ray.tune.search.optuna import OptunaSearch

        # HyperBand tells of every bracket.
        logging.getLogger("ray.tune").setLevel(logging.WARNING)
        self.states = Trial
        if sampler == "bohb":
            _use_fast_bohb(seed)
        self.algorithms = project.library("sweeps.ray_tune.algorithms")
        tune_space = project.library("sweeps.ray_tune.space").TuneSpace(space)
        settings = SimpleNamespace(
            sampler=read_options(project, "sampler", sampler),
            pruner=read_options(project, "pruner", pruner),
        )
        self.max_pending = 1
        if sampler == "random":
            self.max_pending = 200
            # Tune's own generator of random configurations cannot be had without its controller.
            build = project.library("sweeps.optuna_engine").build_sampler
            searcher: Any = OptunaSearch(sampler=build(settings.sampler, seed))
        else:
            searcher = self.algorithms.build_searcher(settings, tune_space, [], seed)
        self.space, self.searcher = tune_space, searcher
        self.scheduler = self.algorithms.build_scheduler(settings, tune_space, length)
        value = self.algorithms.VALUE
        searcher.set_search_properties(value, "max", tune_space.distributions())
        self.scheduler.set_search_properties(value, "max")
        # Asked for by the schedulers.
        self.search_alg = SimpleNamespace(searcher=searcher)
        self.trials: list[TuneTrial] = []
        self.count = 0

    def get_trials(self) -> list[TuneTrial]:
        """The trials that have not ended; asked for by the schedulers."""
        ended = (self.states.TERMINATED, self.states.ERROR)
        self.trials = [trial for trial in self.trials if trial.status not in ended]
        return self.trials

    def stop_trial(self, trial: TuneTrial) -> None:
        """End a trial; asked for by the schedulers."""
        if trial.status == self.states.TERMINATED:
            return
        if trial.status == self.states.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
            self.searcher.on_trial_complete(trial.trial_id, result=trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
            self.searcher.on_trial_complete(trial.trial_id)
        trial.status = self.states.TERMINATED

    def ask(self, worker: int) -> Job | None:
        """The trial that the scheduler chooses, or else the first one that is pending."""
        self._fill()
        trial = self.scheduler.choose_trial_to_run(self)
        if trial is None:
            pending = (t for t in self.get_trials() if t.status == self.states.PENDING)
            trial = next(pending, None)
        if trial is None:
            return None
        trial.status = self.states.RUNNING
        self._fill()
        job: Job = trial.job
        return job

    def report(self, job: Job, is_last: bool) -> bool:
        """Follow the scheduler's decision."""
        trial: TuneTrial = job.key
        step, value = self.algorithms.EPOCH, self.algorithms.VALUE
        result = {step: len(job.values), value: job.values[-1], METRIC: job.values[-1]}
        result |= {"training_iteration": len(job.values)}
        decision = self.scheduler.on_trial_result(self, trial, result)
        if decision != "STOP":
            self.searcher.on_trial_result(trial.trial_id, result)
        trial.last_result = result
        if decision == "STOP" or (is_last and decision == "CONTINUE"):
            self.stop_trial(trial)
        elif decision == "PAUSE":
            trial.status = self.states.PAUSED
        else:
            return True
        return False

    def _fill(self) -> None:
        """Ask the searcher for more trials, unless enough are pending or it wants to wait."""
        pending = sum(trial.status == self.states.PENDING for trial in self.get_trials())
        while pending < self.max_pending and self._add():
            pending += 1

    def _add(self) -> bool:
        name = f"{self.count:05d}"
        config = self.searcher.suggest(name)
        if config is None:
            return False
        self.count += 1
        trial = TuneTrial(name, Job(None, self.space.params_of(config)), self.states.PENDING)
        trial.job.key = trial
        self.trials.append(trial)
        self.scheduler.on_trial_add(self, trial)
        return True


def _use_fast_bohb(seed: int) -> None:
    """A third of the time of BOHB, and a seed for what it draws from NumPy's global generator.

    SciPy checks the arguments of every number that it draws. Here it is the inverse of the
    distribution function, as in SciPy, without its logarithms: in BOHB, the limits are on both
    sides of the mean, so the values differ in the last digits only.
    """
    from hpbandster.optimizers.config_generators import bohb
    from numpy import random
    from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

    random.seed(seed)

    def draw(low: float, high: float, loc: float, scale: float) -> float:
        below = ndtr(low)
        return float(loc + scale * ndtri(below + random.uniform() * (ndtr(high) - below)))

    bohb.sps = SimpleNamespace(truncnorm=SimpleNamespace(rvs=draw))
