"""The workers of this machine: which trials run, on which GPUs, and what they report."""

import logging
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf, flag_override

from ..checks import require
from ..errors import UserError
from ..hydra_errors import explain
from ..machine import usable_cores, visible_devices
from ..redact import redact
from ..runs.directory import register_resolvers
from .processes import kill_group, launch
from .trial_channel import Result, Step
from .types import State, TrialOutcome, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """A report of a trial, which waits for a verdict.

    Attributes:
        number: of the trial.
        step: number of epochs or validations so far.
        value: the first objective.
        is_last: whether the training is complete, so that the trial ends after any verdict.
        repeats_to: the last step that repeats a report of an earlier attempt; 0 if none does.
    """

    number: int
    step: int
    value: float
    is_last: bool
    repeats_to: int = 0


@dataclass(frozen=True)
class Ended:
    """A process has ended, with its result or, if there is none, a `TrialOutcome`."""

    number: int
    result: Any


@dataclass
class TrialProcess:
    """A running process; `is_silent` once it has closed its line."""

    number: int
    worker: int
    gpus: list[int]
    process: BaseProcess
    line: connection.Connection
    started: float = field(default_factory=time.monotonic)
    result: Result | None = None
    killed: TrialOutcome | None = None
    is_silent: bool = False


class AnyWorkers(Protocol):
    """Workers of this machine or of a cluster.

    Attributes:
        count: how many trials run at once, at most.
        running: the trials at work by their numbers; each has the time when it `started`.
    """

    count: int
    running: dict[int, Any]

    def free_worker(self) -> int | None:
        """The lowest number of a worker that is idle."""

    def name(self, worker: int) -> str:
        """A worker's name, for the report."""

    def start(self, number: int, log: Path, function: Callable[..., Any], *args: Any) -> None:
        """Run a function in a process of its own, with its output in `log`."""

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""

    def kill(self, number: int, outcome: TrialOutcome) -> None:
        """End a process and all it started, with this outcome."""

    def wait(self, timeout: float) -> Iterator[Progress | Ended]:
        """The next events, after at most `timeout` seconds."""

    def close(self) -> None:
        """End all workers."""


class Workers:
    """A fixed number of workers, each with a fraction of the cores and GPUs.

    Args:
        count: maximum number of concurrent processes.
        gpus: indices of the GPUs; None to leave the choice to the trials.
        gpus_per_trial: an integer, or a fraction to run several trials per GPU.
    """

    def __init__(
        self, count: int, gpus: list[int] | None = None, gpus_per_trial: float = 0
    ) -> None:
        self.gpus_per_trial = gpus_per_trial
        self._free = None if gpus is None else dict.fromkeys(gpus, 1.0)
        if self._free and gpus_per_trial:
            self._unit = min(gpus_per_trial, 1)
            count = min(count, int(len(self._free) / gpus_per_trial * (1 + 1e-9)))
        self.count = count
        self.threads = max(1, usable_cores() // max(count, 1))
        self.running: dict[int, TrialProcess] = {}

    def free_worker(self) -> int | None:
        """The lowest number of an idle worker; None if all are busy."""
        busy = {running.worker for running in self.running.values()}
        return next((worker for worker in range(self.count) if worker not in busy), None)

    def name(self, worker: int) -> str:
        """A worker's name, for the report."""
        return f"{worker}"

    def close(self) -> None:
        """Nothing to release once the trials have ended."""

    def start(self, number: int, log: Path, function: Callable[..., Any], *args: Any) -> None:
        """Run a function in a process of its own, with its output in `log`."""
        worker = self.free_worker()
        assert worker is not None
        gpus = self._take_gpus()
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        if self._free is not None:
            variables["CUDA_VISIBLE_DEVICES"] = visible_devices(gpus)
        process, line = launch(variables, log, function, args)
        self.running[number] = TrialProcess(number, worker, gpus, process, line)

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""
        with suppress(OSError):
            self.running[number].line.send(answer)

    def wait(self, timeout: float) -> Iterator[Progress | Ended]:
        """The next events, after at most `timeout` seconds."""
        sources: dict[Any, TrialProcess] = {}
        for running in self.running.values():
            # A closed line would be ready all the time, until the process has ended.
            sources |= {} if running.is_silent else {running.line: running}
            sources[running.process.sentinel] = running
        ready = connection.wait(list(sources), timeout)
        for running in {id(sources[source]): sources[source] for source in ready}.values():
            yield from self._listen(running)

    def kill(self, number: int, outcome: TrialOutcome) -> None:
        """End a process and all it started, with this outcome."""
        running = self.running[number]
        running.killed = running.killed or outcome
        kill_group(running.process)

    def _listen(self, running: TrialProcess) -> Iterator[Progress | Ended]:
        try:
            while running.line.poll():
                message = running.line.recv()
                if isinstance(message, Step):
                    yield Progress(running.number, *message)
                elif isinstance(message, Result):
                    running.result = message
        except (EOFError, OSError):
            running.is_silent = True
        if running.process.exitcode is None:
            return
        # Its own child processes must not outlive it.
        kill_group(running.process)
        running.process.join()
        running.line.close()
        del self.running[running.number]
        self._give_back(running.gpus)
        yield Ended(running.number, self._result(running))

    def _result(self, running: TrialProcess) -> Any:
        if running.result is not None:
            return running.result.value
        if running.killed is not None:
            return running.killed
        code = running.process.exitcode or 0
        if code < 0:
            name = signal.Signals(-code).name
            why = " (by hand, or out of memory)" if name == "SIGKILL" else ""
            return TrialOutcome(State.FAILED, error=f"killed by {name}{why}", retry=True)
        return TrialOutcome(State.FAILED, error=f"ended with exit code {code}", retry=True)

    def _take_gpus(self) -> list[int]:
        free = self._free
        if not free or not self.gpus_per_trial:
            return []
        emptiest = sorted(free, key=lambda gpu: -free[gpu])
        taken = emptiest[: max(1, round(self.gpus_per_trial))]
        for gpu in taken:
            free[gpu] -= self._unit
        return sorted(taken)

    def _give_back(self, gpus: list[int]) -> None:
        for gpu in gpus:
            assert self._free is not None
            self._free[gpu] += self._unit


@contextmanager
def on_interrupt(act: Callable[[int], None]) -> Iterator[None]:
    """Call a function with the number of the signal on Ctrl-C or SIGTERM, instead of ending."""

    def handle(number: int, frame: FrameType | None) -> None:
        act(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_alone(workers: Workers, log_file: Path, function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in a worker and wait for its result."""
    workers.start(-1, log_file, function, *args)
    while True:
        for event in workers.wait(timeout=1):
            if isinstance(event, Ended):
                return event.result
            workers.answer(event.number, Verdict.CONTINUE)


def local_workers(
    trainer: DictConfig,
    count: int,
    gpu_count: int,
    workers: int | None = None,
    gpus: list[int] | None = None,
    gpus_per_trial: float | None = None,
) -> Workers:
    """As many workers as there is room for on this machine, on the GPUs if the trainer uses them.

    Args:
        trainer: the config of the trainer.
        count: number of trainings.
        gpu_count: number of GPUs of this machine.
        workers: number of concurrent trainings; None for one per core, or as many as fit the GPUs.
        gpus: indices of the GPUs; None for all.
        gpus_per_trial: None for the devices of the trainer.

    Raises:
        UserError: there is no room for a single one.
    """
    if gpus is None:
        uses_gpus = trainer.accelerator in ("auto", "gpu", "cuda")
        gpus = list(range(gpu_count)) if uses_gpus else []
    devices = trainer.devices if isinstance(trainer.devices, int) else -1
    if gpus_per_trial is None:
        gpus_per_trial = (len(gpus) if devices < 0 else devices) if gpus else 0
    check_gpus_per_trial(gpus_per_trial, len(gpus))
    room = max(1, int(len(gpus) / gpus_per_trial + 1e-9)) if gpus_per_trial else usable_cores()
    return Workers(min(workers or room, count), gpus or None, gpus_per_trial)


def check_gpus_per_trial(gpus: float, count: int) -> None:
    """Reject numbers of GPUs that cannot be allocated.

    Raises:
        UserError: neither an integer nor a fraction below 1, or more than `count`.
    """
    is_valid = 0 <= gpus <= 1 or float(gpus).is_integer()
    require(is_valid, "hydra.sweeper.gpus_per_trial", "an integer, or a fraction such as 0.5", gpus)
    if gpus > count:
        raise UserError(
            f"hydra.sweeper.gpus_per_trial={gpus:g} needs more GPUs than the {count} available."
        )


def run_job(config: DictConfig, function: Callable[[DictConfig], Any]) -> Any:
    """Run a function as Hydra runs a job; a failed `TrialOutcome` if it raises."""
    setup_globals()
    register_resolvers()
    # The method `set_config` would copy the config first.
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    try:
        return function(task_of(config))
    except Exception as error:
        return failed(error)


def task_of(config: DictConfig) -> DictConfig:
    """The config without Hydra's part, with its references resolved, and not at each access.

    Its parts are moved here: copying them takes as long as resolving them.
    """
    task = OmegaConf.create()
    with flag_override(task, "no_deepcopy_set_nodes", True):
        for key in [key for key in config if key != "hydra"]:
            value = config[key]
            if OmegaConf.is_config(value):
                OmegaConf.resolve(value)
            task[key] = value
    OmegaConf.set_struct(task, OmegaConf.is_struct(config) is True)
    return task


def failed(error: Exception) -> TrialOutcome:
    """An exception as an outcome; an error in the config is not worth a retry."""
    sentence = explain(error)
    if sentence is not None:
        log.error("%s", sentence)
        return TrialOutcome(State.FAILED, error=redact(sentence))
    log.exception("the trial failed", exc_info=error)
    first = (str(error).strip().splitlines() or [""])[0]
    return TrialOutcome(
        State.FAILED,
        error=redact(f"{type(error).__name__}: {first}"),
        retry=True,
        traceback=redact("".join(traceback.format_exception(error))),
    )
