"""A sweep under Ray Tune: its searchers and schedulers, and the trials and files of any sweep."""

import logging
import os
import pickle  # nosec B403
import random
import shutil
import signal
import time
import uuid
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.exceptions import RayTaskError

from ... import env_file
from ...errors import UserError, first_line
from ...runs.logs import log_in_signal
from .. import ray_cluster
from .. import trial as trials
from ..engines import slots_of
from ..enqueue import TOO_MANY_POINTS, read_points
from ..loop import Stop, Sweep
from ..optuna_search import open_search
from ..plan import Plan
from ..preflight import slots_on
from ..space import is_same_point
from ..tracking import packages
from ..trial_channel import max_epochs_of, max_steps_of
from ..types import Next, State, Trial, TrialOutcome, Unit, Value, trial_folder
from ..workers import on_interrupt
from . import PAUSING, check_length, mutated
from .algorithms import VALUE, build_scheduler, build_searcher, proposes
from .record import TuneStudy
from .space import TuneSpace
from .trial import UPDATE, Task, TuneTrial, Update

log = logging.getLogger(__name__)

# How often a trial is restarted because its node was lost.
LOST_NODES = 10
STOPPED_BY = {
    Stop.INTERRUPT: "interrupted (press Ctrl-C again to stop immediately)",
    Stop.TIMEOUT: "timeout",
    Stop.ERRORS: "the trials keep failing",
}
SETTINGS = {
    # The project's loggers are enough.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # `interrupt` handles Ctrl-C; Ray Tune always handles SIGUSR1 too.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Seconds between two snapshots of its state: what a kill may lose.
    "TUNE_GLOBAL_CHECKPOINT_S": "2",
}


class TuneSweep(Sweep):
    """A sweep under `ray.tune.Tuner`.

    Raises:
        UserError: trials that never end.
    """

    def __init__(self, plan: Plan) -> None:
        trainer = plan.config.trainer
        epochs = max_epochs_of(trainer)
        self.max_epochs = epochs if plan.unit is Unit.EPOCH else None
        check_length(plan.settings, self.max_epochs, epochs is max_steps_of(trainer) is None)
        super().__init__(plan)
        self.trials: dict[int, Trial] = {}
        self.broken: UserError | None = None

    def connect(self) -> None:
        """Join the cluster, or start one on this machine with as many cores as are needed."""
        os.environ.update(SETTINGS)
        settings = self.plan.settings
        slots = slots_of(settings)
        cores = None if slots is None else slots * settings.cpus_per_trial
        ray_cluster.connect(settings.address, cores)
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
        # A trial that resumes reports its epochs again.
        warnings.filterwarnings("ignore", message="The reported value is ignored")

    def prepare(self, gpu_count: int) -> None:
        """Determine how many trials run at once, and what they vary."""
        plan = self.plan
        points = None if plan.has_schedules else plan.points
        if points is not None:
            points = points[: plan.n_trials]
            settings = replace(plan.settings, n_trials=len(points))
            self.plan = plan = replace(plan, settings=settings, points=points)
        exponents = plan.settings.pruner["name"] == "pb2"
        self.space = TuneSpace(plan.space, points, exponents)
        self.count, gpus = slots_on(ray_cluster, self.plan)
        self.resources = {"cpu": self.plan.settings.cpus_per_trial, "gpu": gpus}

    def open(self) -> TuneStudy:
        """Open the study."""
        plan = self.plan
        self.record = open_search(plan, lambda _: TuneStudy)
        self.record.unit = plan.unit
        if plan.has_schedules:
            self.record.schedules = mutated(plan.settings, plan.space)
        return self.record

    def search(self) -> None:
        """Run the trials under Ray Tune."""
        plan = self.plan
        if self.record.is_finished():
            return
        log.info("%d trials, %d at once, in %s", plan.n_trials, self.count, plan.folder)
        marker = plan.folder / f".shared-{uuid.uuid4().hex[:8]}"
        marker.touch()
        Watcher.sweep = self
        self.ended_before = self.record.ended()
        try:
            ray_cluster.check_shared(marker)
            tuner = self._tuner(marker)
            self._deadline = time.monotonic() + (plan.settings.timeout or float("inf"))
            with on_interrupt(self.interrupt), self.display.live():
                tuner.fit()
            if self.broken is not None:
                raise self.broken
            self._complete()
            self._tidy_up()
        finally:
            marker.unlink(missing_ok=True)
            ray.shutdown()

    def started(self, number: int, params: dict[str, Value]) -> None:
        """A trial starts or continues."""
        known = self.ended_before.get(number)
        if known is not None and is_same_point(known.params, params):
            # It only reports to Ray Tune again how it ended.
            return
        self.record.begin(number, params)
        self.trials[number] = trial = Trial(number, params)
        self.display.start(trial, "starts")

    def told(self, update: Update) -> None:
        """A trial has reported, or ended."""
        if update.number not in self.trials:
            return
        self.record.add(update)
        self.display.running[update.number].worker = update.worker
        if update.value is not None:
            self.display.report(update.number, update.epoch, update.value)

    def ended(self, number: int, error: str | None = None) -> None:
        """A trial has ended; `error` is one that its own process could not report."""
        trial = self.trials.pop(number, None)
        if trial is None:
            return
        if self.record.is_running(number):
            state = State.PRUNED if error is None else State.FAILED
            self.record.end(number, TrialOutcome(state, error=error or ""))
        known = self.record.ended()[number]
        trial = Trial(number, known.params)
        outcome = TrialOutcome(known.state, known.metrics, known.error)
        self.note_end(self.record, trial, outcome, Next.NOTHING)
        if self.failures.is_hopeless:
            self.stop(Stop.ERRORS)

    def watch_the_time(self) -> None:
        """Stop when hydra.sweeper.timeout has passed."""
        if time.monotonic() > self._deadline:
            self.stop(Stop.TIMEOUT)

    def paused(self, number: int) -> None:
        """A trial is paused."""
        if number in self.display.running:
            self.display.running[number].worker = "waits"

    def stop(self, why: Stop) -> None:
        """Let Ray Tune save its state and end."""
        if self.stopped_by is None:
            self.stopped_by = why
            text = f"{STOPPED_BY[why]}: the running trials end"
            log_in_signal(log, logging.INFO, text)

    def interrupt(self, signum: int) -> None:
        """Save the state and end the running trials; on a second Ctrl-C, exit immediately."""
        if self.stopped_by is not None:
            os._exit(130)
        self.stop(Stop.INTERRUPT)

    def _tuner(self, marker: Path) -> tune.Tuner:
        plan, settings, space = self.plan, self.plan.settings, self.space
        folder = plan.folder / "tune"
        task = Task(
            base=pickle.dumps(plan.base),
            space=space,
            objective=plan.objectives[0],
            folder=plan.folder,
            marker=marker,
            threads=max(1, int(settings.cpus_per_trial)),
            variables=env_file.added(),
            packages=packages(plan.config),
            max_retries=settings.max_retries,
            timeout=settings.trial_timeout,
            ended=self.ended_before,
        )
        trainable = tune.with_resources(tune.with_parameters(TuneTrial, task=task), self.resources)
        if tune.Tuner.can_restore(str(folder)):
            return tune.Tuner.restore(str(folder), trainable=trainable, resume_errored=False)
        seed = plan.config.seed
        # Population-based training draws from these.
        random.seed(seed)
        np.random.seed(seed)
        laid_out = space.points is not None
        points = [] if laid_out else read_points(settings.enqueue, plan.space)
        if len(points) > plan.n_trials:
            log.warning(TOO_MANY_POINTS, len(points) - plan.n_trials, plan.n_trials)
        pauses = settings.pruner["name"] in PAUSING
        return tune.Tuner(
            trainable,
            param_space=space.distributions(),
            tune_config=tune.TuneConfig(
                metric=VALUE,
                mode=plan.objectives[0].mode,
                search_alg=build_searcher(settings, space, points, seed),
                scheduler=build_scheduler(settings, space, self.max_epochs),
                num_samples=1 if laid_out else plan.n_trials,
                # Proposals in advance would use fewer results; pausing schedulers need all trials.
                max_concurrent_trials=None if pauses else self.count,
                reuse_actors=True,
                trial_dirname_creator=partial(number_of, first=int(proposes(settings, space))),
            ),
            run_config=tune.RunConfig(
                name=folder.name,
                storage_path=str(plan.folder),
                failure_config=tune.FailureConfig(max_failures=LOST_NODES),
                callbacks=[Watcher()],
                verbose=0,
            ),
        )

    def _complete(self) -> None:
        """Record the metrics of pruned trials: Ray Tune did not wait for their end."""
        self.record.add_pruned(
            {
                trial.number: trials.metrics_of(self.plan.folder / trial_folder(trial.number))
                for trial in self.record.records()
                if trial.state is State.PRUNED and not trial.metrics
            }
        )

    def _tidy_up(self) -> None:
        """Remove the checkpoints that only a running sweep needs."""
        if not self.record.is_finished():
            return
        for path in self.plan.folder.glob("tune/*/checkpoint_*"):
            shutil.rmtree(path)
        for path in self.plan.folder.glob("trials/*/checkpoints/last.ckpt"):
            path.unlink()


class Watcher(tune.Callback):
    """Forwards events to the sweep of this process; Ray Tune pickles it with its state."""

    sweep: TuneSweep

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ray Tune is about to process events."""
        self.sweep.watch_the_time()
        if self.sweep.stopped_by is not None:
            signal.raise_signal(signal.SIGUSR1)

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial starts or continues."""
        self.sweep.started(_number(trial), self.sweep.space.params_of(trial.config))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A trial has reported."""
        if (facts := result[UPDATE]) is not None:
            self.sweep.told(Update(**facts | {"state": State(facts["state"])}))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has ended, or was pruned."""
        self.sweep.ended(_number(trial))

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has lost its actor, or the actor could not start."""
        error = _error_of(trial)
        if isinstance(error, RayTaskError):
            self.sweep.broken = ray_cluster.cannot_start(error)
            self.sweep.stop(Stop.ERRORS)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial has lost its actor too often."""
        error = _error_of(trial)
        self.sweep.ended(_number(trial), first_line(error) if error else "lost its worker")

    def on_trial_save(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A trial was saved, which precedes a pause."""
        if trial.status == "PAUSED":
            self.sweep.paused(_number(trial))


def number_of(trial: Any, first: int) -> str:
    """The name of a trial's folder in Ray Tune's own state: its number, counted from 0."""
    return f"{int(trial.experiment_tag.partition('_')[0]) - first:04d}"


def _number(trial: Any) -> int:
    return int(trial.relative_logdir)


def _error_of(trial: Any) -> Exception | None:
    """Why a trial has lost its actor."""
    file = Path(trial.pickled_error_file)
    # Written by Ray Tune in this very process.
    return pickle.loads(file.read_bytes()) if file.is_file() else None  # nosec B301
