"""Processes for trials, forked in milliseconds from a server that has imported everything.

Importing torch and Lightning takes longer than many trials, so a server does it once. As each trial
has its own process, it cannot affect others, and its memory and GPUs are free afterwards.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from ..checks import require
from ..errors import UserError
from ..hydra_errors import explain
from ..machine import usable_cores, visible_devices
from ..project import project
from ..redact import redact
from ..runs.directory import register_resolvers
from . import trial_channel
from .trial_channel import Result, Step
from .types import State, TrialOutcome, Verdict

log = logging.getLogger(__name__)

context = multiprocessing.get_context("forkserver")
# How the fork server imports the main module of an application.
MAIN = "WORKBENCH_MAIN"


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
    """A running process."""

    number: int
    worker: int
    gpus: list[int]
    process: ForkServerProcess
    line: connection.Connection
    started: float = field(default_factory=time.monotonic)
    result: Result | None = None
    killed: TrialOutcome | None = None


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
        here, there = context.Pipe()
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        if self._free is not None:
            variables["CUDA_VISIBLE_DEVICES"] = visible_devices(gpus)
        process = context.Process(
            target=work, args=(there, variables, log, function, args), name=f"trial-{number}"
        )
        try:
            process.start()
        except (EOFError, OSError) as error:
            guard = "; a script must call its function below `if __name__ == '__main__':`"
            raise UserError(
                "The workers cannot start: the project's modules cannot be imported, for the "
                f"reason above{'' if project().package else guard}."
            ) from error
        # Otherwise the death of the child would not close the connection.
        there.close()
        self.running[number] = TrialProcess(number, worker, gpus, process, here)

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""
        with suppress(OSError):
            self.running[number].line.send(answer)

    def wait(self, timeout: float) -> Iterator[Progress | Ended]:
        """The next events, after at most `timeout` seconds."""
        sources: dict[Any, TrialProcess] = {}
        for running in self.running.values():
            sources |= {running.line: running, running.process.sentinel: running}
        ready = connection.wait(list(sources), timeout)
        for running in {id(sources[source]): sources[source] for source in ready}.values():
            yield from self._listen(running)

    def kill(self, number: int, outcome: TrialOutcome) -> None:
        """End a process and all it started, with this outcome."""
        running = self.running[number]
        running.killed = running.killed or outcome
        _kill_group(running.process)

    def _listen(self, running: TrialProcess) -> Iterator[Progress | Ended]:
        with suppress(EOFError, OSError):
            while running.line.poll():
                message = running.line.recv()
                if isinstance(message, Step):
                    yield Progress(running.number, *message)
                elif isinstance(message, Result):
                    running.result = message
        if running.process.exitcode is None:
            return
        # Its own child processes must not outlive it.
        _kill_group(running.process)
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


def start_server(packages: Sequence[str] = (), main_module: str | None = None) -> None:
    """Start the fork server and its imports, which the first process waits for.

    Args:
        packages: imported in addition.
        main_module: of an application, which is imported instead of a project.
    """
    if main_module is not None:
        context.set_forkserver_preload([f"{__package__}.preload_main", *packages])
        variable, value = MAIN, main_module
    else:
        own = project().package
        # Not `__main__`, which would be imported before the server knows where the project is.
        preload = f"{__package__}.preload"
        context.set_forkserver_preload([own, f"{own}.training", *packages, preload])
        paths = [str(project().root), os.environ.get("PYTHONPATH")]
        variable, value = "PYTHONPATH", os.pathsep.join(filter(None, paths))
    with _environment(variable, value):
        forkserver.ensure_running()


@contextmanager
def _environment(variable: str, value: str) -> Iterator[None]:
    before = os.environ.get(variable)
    os.environ[variable] = value
    try:
        yield
    finally:
        del os.environ[variable]
        if before is not None:
            os.environ[variable] = before


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


def work(
    line: connection.Connection,
    variables: dict[str, str],
    log: Path,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """Run a function in this process, which was forked for it, and send its result."""
    # A process group of its own: Ctrl-C in the terminal is for the sweep, and the processes that
    # the trial starts can be killed with it.
    os.setsid()
    # A trial starts its own processes, independently of the number of tasks of the job.
    os.environ.pop("SLURM_NTASKS", None)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    _write_to(log)
    os.environ.update(variables)
    # With the default method every DataLoader worker would import torch again.
    multiprocessing.set_start_method("fork", force=True)

    import rich

    # Output goes to a file, not to the terminal of the server.
    rich.reconfigure()
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(int(variables["OMP_NUM_THREADS"]))
    trial_channel.current = trial_channel.Channel(line)
    try:
        line.send(Result(function(*args)))
    except BaseException:
        sys.excepthook(*sys.exc_info())
        _leave(1)
    _leave(0)


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


def _leave(code: int) -> None:
    """Exit at once: the loggers are closed, and the usual clean-up takes time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die_with(sentinel: int) -> None:
    """Kill the process group once the process of the sweep has ended, for whatever reason."""
    connection.wait([sentinel])
    os.killpg(0, signal.SIGKILL)


def _write_to(log: Path) -> None:
    """Redirect all output to a log, including that of child processes."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _kill_group(process: ForkServerProcess) -> None:
    """Kill a process and its group, which it may not have created yet."""
    pid = process.pid
    assert pid is not None
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if process.exitcode is None:
        process.kill()


def run_job(config: DictConfig, function: Callable[[DictConfig], Any]) -> Any:
    """Run a function as Hydra runs a job; a failed `TrialOutcome` if it raises."""
    setup_globals()
    register_resolvers()
    # The method `set_config` would copy the config first.
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    try:
        # Interpolations are resolved once, and not at each access.
        task = {
            key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for key, node in config.items()
            if key != "hydra"
        }
        return function(OmegaConf.create(task, flags={"struct": True}))
    except Exception as error:
        return failed(error)


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
