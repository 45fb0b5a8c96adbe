"""Processes for trials: each fresh, forked in milliseconds from a server that has all imports.

Importing torch and Lightning takes longer than many a trial; a server does it once. A process of
its own means that no trial can harm another, and that its memory and its GPUs are free afterwards.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Protocol

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, setup_globals
from omegaconf import DictConfig, OmegaConf

from ..errors import UserError
from ..hydra_errors import explain
from ..machine import usable_cores
from ..project import project
from ..redact import redact
from ..runs.directory import register_resolvers
from .types import State, TrialOutcome, Verdict

log = logging.getLogger(__name__)

# Precedes the traceback in the log of a process.
BROKE_OFF = "the trial broke off"

context = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Progress:
    """A trial has come so far, and waits for an answer.

    Attributes:
        number: of the trial.
        step: the epochs or validations so far.
        value: the first objective.
        is_last: whether the training is complete, so that the trial ends with any answer.
    """

    number: int
    step: int
    value: float
    is_last: bool


@dataclass(frozen=True)
class Ended:
    """A process has ended: with its result, or an TrialOutcome that says why there is none."""

    number: int
    result: Any


@dataclass
class TrialProcess:
    """A process at work."""

    number: int
    worker: int
    gpus: list[int]
    process: ForkServerProcess
    line: connection.Connection
    started: float = field(default_factory=time.monotonic)
    results: list[Any] = field(default_factory=list)
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
        """Run a function in a process of its own, everything it prints going to `log`."""

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""

    def kill(self, number: int, outcome: TrialOutcome) -> None:
        """End a process and all it started, with this outcome."""

    def wait(self, timeout: float) -> Iterator[Progress | Ended]:
        """What happened, waiting for it at most `timeout` seconds."""

    def close(self) -> None:
        """End all workers."""


class Workers:
    """A fixed number of workers, each with its share of the cores and the GPUs.

    Args:
        count: how many processes run at once, at most.
        gpus: numbers of the GPUs, or None to leave them to the trials.
        gpus_per_trial: a whole number, or a share for trials that fit on a GPU together.
    """

    def __init__(
        self, count: int, gpus: list[int] | None = None, gpus_per_trial: float = 0
    ) -> None:
        self.gpus_per_trial = gpus_per_trial
        self._free = None if gpus is None else dict.fromkeys(gpus, 1.0)
        if self._free and gpus_per_trial:
            share = min(gpus_per_trial, 1)
            count = min(count, int(len(self._free) / gpus_per_trial * (1 + 1e-9)))
            self._unit = share
        self.count = count
        self.threads = max(1, usable_cores() // max(count, 1))
        self.running: dict[int, TrialProcess] = {}

    def free_worker(self) -> int | None:
        """The lowest number of a worker that has nothing to do."""
        busy = {running.worker for running in self.running.values()}
        return next((worker for worker in range(self.count) if worker not in busy), None)

    def name(self, worker: int) -> str:
        """A worker's name, for the report."""
        return f"{worker}"

    def close(self) -> None:
        """Nothing is left once the trials have ended."""

    def start(self, number: int, log: Path, function: Callable[..., Any], *args: Any) -> None:
        """Run a function in a process of its own, everything it prints going to `log`."""
        worker = self.free_worker()
        assert worker is not None
        gpus = self._take_gpus()
        here, there = context.Pipe()
        surroundings = {"OMP_NUM_THREADS": str(self.threads)}
        if self._free is not None:
            surroundings["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        process = context.Process(
            target=work, args=(there, surroundings, log, function, args), name=f"trial-{number}"
        )
        try:
            process.start()
        except (EOFError, OSError) as error:
            raise UserError(
                "The workers cannot start: the project's modules cannot be imported, for the "
                "reason above."
            ) from error
        # Only the child's end may be open, or its death would not be noticed.
        there.close()
        self.running[number] = TrialProcess(number, worker, gpus, process, here)

    def answer(self, number: int, answer: Verdict) -> None:
        """Answer a report."""
        with suppress(OSError):
            self.running[number].line.send(answer)

    def wait(self, timeout: float) -> Iterator[Progress | Ended]:
        """What happened, waiting for it at most `timeout` seconds."""
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
                if isinstance(message, tuple) and len(message) == 3:
                    yield Progress(running.number, *message)
                else:
                    running.results += message
        if running.process.exitcode is None:
            return
        # What it started must not outlive it.
        _kill_group(running.process)
        running.process.join()
        running.line.close()
        del self.running[running.number]
        self._give_back(running.gpus)
        yield Ended(running.number, self._result(running))

    def _result(self, running: TrialProcess) -> Any:
        # It may be None.
        if running.results:
            return running.results[0]
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


def start_server(packages: Sequence[str] = ()) -> None:
    """Let the fork server begin with its imports; the first process waits for them.

    Args:
        packages: what it imports besides.
    """
    own = project().package
    # Not `__main__`: it would be imported before the server knows where the project lies.
    preload = f"{__package__}.preload"
    context.set_forkserver_preload([own, f"{own}.training", *packages, preload])
    with _project_on_path():
        forkserver.ensure_running()


@contextmanager
def _project_on_path() -> Iterator[None]:
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project().root), before]))
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def work(
    line: connection.Connection,
    surroundings: dict[str, str],
    log: Path,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """The life of a worker's process."""
    # A group of its own: Ctrl-C on the terminal is for the sweep, and all that the trial starts
    # can be killed with it.
    os.setsid()
    # A trial starts the processes it needs itself, and does not count the job's.
    os.environ.pop("SLURM_NTASKS", None)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    _write_to(log)
    os.environ.update(surroundings)
    # The fork server's own method would have every DataLoader worker import torch again.
    multiprocessing.set_start_method("fork", force=True)

    import rich
    import torch

    from . import trial_channel

    # What is printed goes to a file now, not to the terminal that the server saw.
    rich.reconfigure()
    torch.set_num_threads(int(surroundings["OMP_NUM_THREADS"]))
    trial_channel.current = trial_channel.Channel(line)
    try:
        line.send((function(*args),))
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
        count: how many trainings there are.
        gpu_count: the GPUs of this machine.
        workers: how many are wanted at once; None for one per core, or as many as the GPUs hold.
        gpus: which GPUs; None for all.
        gpus_per_trial: None for what the trainer asks for.

    Raises:
        UserError: there is not even room for one.
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


def check_gpus_per_trial(share: float, count: int) -> None:
    """Refuse shares that cannot be dealt out.

    Raises:
        UserError: neither a whole number nor a share of one, or more than there are.
    """
    if not (0 <= share <= 1 or float(share).is_integer()):
        raise UserError(
            f"hydra.sweeper.gpus_per_trial is a whole number, or a share as 0.5, not {share}."
        )
    if share > count:
        raise UserError(
            f"hydra.sweeper.gpus_per_trial={share:g} asks for more GPUs than the {count} there are."
        )


def _leave(code: int) -> None:
    """End at once: the loggers are closed, and clean-up of what dies anyway takes its time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die_with(sentinel: int) -> None:
    """Kill the whole group when the sweep's process is gone, however it went."""
    connection.wait([sentinel])
    os.killpg(0, signal.SIGKILL)


def _write_to(log: Path) -> None:
    """Send all output to the trial's log, that of programs it starts too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)


def _kill_group(process: ForkServerProcess) -> None:
    """Kill a process that leads a group, and the group; it may have ended, or not begun to lead."""
    pid = process.pid
    assert pid is not None
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    if process.exitcode is None:
        process.kill()


def run_job(config: DictConfig, function: Callable[[DictConfig], Any]) -> Any:
    """Run a function as Hydra runs a job; a failed TrialOutcome if it raises."""
    setup_globals()
    register_resolvers()
    # Its method `set_config` would copy the config first.
    HydraConfig.instance().cfg = config  # type: ignore[assignment]
    configure_log(config.hydra.job_logging, config.hydra.verbose)
    try:
        # References are looked up once here, and not each time that a value is read.
        task = {
            key: OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
            for key, node in config.items()
            if key != "hydra"
        }
        return function(OmegaConf.create(task, flags={"struct": True}))
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> TrialOutcome:
    """An exception as an outcome; a mistake in the config would be one the next time too."""
    sentence = explain(error)
    if sentence is not None:
        log.error("%s", sentence)
        return TrialOutcome(State.FAILED, error=redact(sentence))
    log.exception(BROKE_OFF, exc_info=error)
    first = (str(error).strip().splitlines() or [""])[0]
    return TrialOutcome(State.FAILED, error=redact(f"{type(error).__name__}: {first}"), retry=True)
