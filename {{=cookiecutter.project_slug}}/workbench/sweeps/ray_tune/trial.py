"""A trial as Ray Tune sees it: one step ends with a report of the process that trains."""

import json
import os
import pickle  # nosec B403
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray import tune

from .. import trial as trials
from ..ray_cluster import RemoteWorker
from ..space import is_same_point
from ..types import (
    Objective,
    State,
    TrialOutcome,
    TrialRecord,
    Value,
    Verdict,
    judged,
    trial_folder,
)
from ..workers import Ended, Progress
from .algorithms import EPOCH, VALUE
from .space import TuneSpace

# A trial that has not ended: nothing runs any more when its record is read.
OPEN = State.STOPPED
# The key of what is for the sweep, among the results for Ray Tune.
UPDATE = "update"
STATE = "tune.json"
CHECKPOINTS = ("last.ckpt", "best.ckpt")
PATIENCE = 60.0  # seconds for a trial to close its loggers when it is told to stop


@dataclass(frozen=True)
class Update:
    """What a trial reports to the sweep.

    Attributes:
        number: of the trial.
        epoch: the number of epochs, or validations, so far.
        value: the first objective after them; None if the trial ended before any.
        params: the point that it is trained with.
        worker: where.
        state: how the trial ended, if it has.
        metrics: of its best epoch, if it has ended.
        error: what went wrong, in one line.
        copied: the trial whose weights it continued from, if they were not its own.
    """

    number: int
    epoch: int
    value: float | None
    params: dict[str, Value]
    worker: str
    state: State = OPEN
    metrics: dict[str, float] | None = None
    error: str = ""
    copied: int | None = None


@dataclass(frozen=True)
class Task:
    """What all trials have in common.

    Attributes:
        base: pickled, because Hydra's classes in it must be those of the process that trains.
        space: converts Ray Tune's configs to points.
        objective: what is optimised.
        folder: of the sweep.
        marker: a file in it, to detect nodes that do not share the folder.
        threads: the number of threads of a trial.
        variables: of the command's `.env`.
        packages: additional imports.
        max_retries: how often a crashed trial is retried.
        timeout: seconds after which a trial fails.
        ended: the trials that have ended before, by their numbers.
    """

    base: bytes
    space: TuneSpace
    objective: Objective
    folder: Path
    marker: Path
    threads: int
    variables: dict[str, str] = field(repr=False)
    packages: list[str]
    max_retries: int
    timeout: float | None
    ended: dict[int, TrialRecord]


class TuneTrial(tune.Trainable):
    """Trains one point after the other, each in a process of its own.

    The actor outlives its trials, so its fork server imports everything once. A process that dies
    is replaced by one that resumes from the last checkpoint, without Ray Tune's knowledge. A trial
    whose retries fail ends with the worst possible value.

    Attributes:
        known: the result of a trial that has ended under an earlier command.
        handed: the checkpoint from which Ray Tune wants it to continue.
        copied: the trial that the checkpoint is from, if it is another one.
        has_begun: whether a process of this trial has reported since.
    """

    known: dict[str, Any] | None
    handed: Path | None
    copied: int | None
    has_begun: bool

    def setup(self, config: dict[str, Any], task: Task | None = None) -> None:
        """Import everything, and prepare the first trial."""
        assert task is not None
        self.task = task
        self.slot = RemoteWorker(task.threads, task.marker, task.variables)
        # Pickled by the sweep.
        self.base = pickle.loads(task.base)  # nosec B301
        _, node, _ = self.slot.hello(task.packages)
        self.worker = f"{os.getpid()} on {node}"
        self._prepare(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Switch to another trial, or to other options of this one."""
        self.cleanup()
        self._prepare(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train until the next report, and return it."""
        if self.known is not None:
            return self.known
        if self.slot.workers.running:
            self.slot.answer(self.number, Verdict.CONTINUE)
        else:
            self._start()
        while True:
            for event in self.slot.listen()[0]:
                result = self._handle(event)
                if result is not None:
                    return result
            limit = self.task.timeout
            if limit is not None and time.time() - self.began > limit:
                error = f"took longer than trial_timeout={limit:g} seconds"
                self.slot.kill(self.number, TrialOutcome(State.FAILED, error=error))

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy what the trial saved before its last report."""
        target = Path(checkpoint_dir, "checkpoints")
        target.mkdir()
        for name in CHECKPOINTS:
            if (source := self.folder / "checkpoints" / name).is_file():
                shutil.copyfile(source, target / name)
        state = {"epoch": self.epoch, "value": self.value, "number": self.number}
        Path(checkpoint_dir, STATE).write_text(json.dumps(state), "utf-8")

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """Continue from a checkpoint: the trial's own after a pause, or a better trial's."""
        if self.known is not None:
            return
        # Ray Tune may delete its own before the trial has begun.
        self.handed = self.folder.with_name(f"{self.folder.name}.from")
        shutil.rmtree(self.handed, ignore_errors=True)
        shutil.copytree(checkpoint_dir, self.handed)
        state = json.loads((self.handed / STATE).read_text("utf-8"))
        self.epoch, self.value = state["epoch"], state["value"]
        self.copied = None if state["number"] == self.number else state["number"]

    def cleanup(self) -> None:
        """End the trial's process after its last epoch, so that its loggers close properly."""
        until = time.monotonic() + PATIENCE
        while self.slot.workers.running:
            self.slot.answer(self.number, Verdict.PRUNE)
            if time.monotonic() > until:
                self.slot.kill(self.number, TrialOutcome(State.PRUNED))
            self.slot.listen()

    def _prepare(self, config: dict[str, Any]) -> None:
        self.number = int(Path(self.logdir).name)
        self.folder = self.task.folder / trial_folder(self.number)
        self.params = self.task.space.params_of(config)
        self.handed = self.copied = None
        self.epoch, self.value = 0, self._worst()
        self.crashes = 0
        self.has_begun = False
        self.began = time.time()
        self.known = self._known_end()

    def _known_end(self) -> dict[str, Any] | None:
        """The result of a trial whose end Ray Tune lost in a kill."""
        record = self.task.ended.get(self.number)
        if record is None or not is_same_point(record.params, self.params):
            return None
        score = record.metrics.get(self.task.objective.metric, self._worst())
        # The sweep knows it already.
        return {EPOCH: max(record.steps, default=1), VALUE: score, UPDATE: None, "done": True}

    def _start(self, after: str = "part") -> None:
        """Start the process, in a new folder, from the last checkpoint if there is one."""
        sources = [] if self.handed is None else [self.handed]
        if self.folder.exists():
            earlier = self._set_aside(after)
            is_own = self.copied is None or self.has_begun
            if is_own and self._is_same_point(earlier):
                sources.insert(0, earlier)
        self.folder.mkdir(parents=True)
        params = json.dumps(self.params)
        (self.folder / "params.json").write_text(params, "utf-8")
        self.began = time.time()
        args = [self.base, self.params, [self.folder, *sources]]
        self.slot.begin(self.number, self.folder / "run.log", trials.run_trial, args)

    def _set_aside(self, name: str) -> Path:
        """Rename the folder of an earlier process of this trial."""
        stem = f"{self.folder.name}.{name}"
        index = len(list(self.folder.parent.glob(f"{stem}-*"))) + 1
        return self.folder.rename(self.folder.with_name(f"{stem}-{index}"))

    def _forget_sources(self) -> None:
        """Remove what the process started from, now that it has saved a checkpoint of its own.

        The log of a crash is kept.
        """
        self.has_begun = True
        for kind in ("from", "part-*"):
            for path in self.folder.parent.glob(f"{self.folder.name}.{kind}"):
                shutil.rmtree(path, ignore_errors=True)

    def _is_same_point(self, folder: Path) -> bool:
        try:
            params = json.loads((folder / "params.json").read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return is_same_point(params, self.params)

    def _handle(self, event: Progress | Ended) -> dict[str, Any] | None:
        """The result for Ray Tune, if the event has one."""
        if isinstance(event, Ended):
            return self._ended(judged(event.result, [self.task.objective]))
        is_new = event.step > self.epoch
        if is_new:
            self.epoch, self.value = event.step, event.value
            self._forget_sources()
        if is_new and not event.is_last:
            return self._result(self.value)
        # Reported before; or the last one, which is reported with the end.
        self.slot.answer(self.number, Verdict.CONTINUE)
        return None

    def _ended(self, outcome: TrialOutcome) -> dict[str, Any] | None:
        if outcome.retry and self.crashes < self.task.max_retries:
            self.crashes += 1
            self._start(after="crash")
            return None
        # PRUNE is only given when the trial no longer listens.
        state = State.FAILED if outcome.state is State.FAILED else State.FINISHED
        best = outcome.metrics.get(self.task.objective.metric, self._worst())
        score = self._worst() if state is State.FAILED else best
        self._forget_sources()
        return self._result(score, state, outcome)

    def _result(
        self, score: float, state: State = OPEN, outcome: TrialOutcome | None = None
    ) -> dict[str, Any]:
        """A result for Ray Tune, with the update for the sweep."""
        update = Update(
            number=self.number,
            epoch=self.epoch,
            value=self.value if self.epoch else None,
            params=self.params,
            worker=self.worker,
            state=state,
            metrics=outcome.metrics if outcome else None,
            error=outcome.error if outcome else "",
            copied=self.copied,
        )
        done = {"done": True} if outcome else {}
        return {EPOCH: max(self.epoch, 1), VALUE: score, UPDATE: vars(update), **done}

    def _worst(self) -> float:
        return float("-inf") if self.task.objective.mode == "max" else float("inf")
