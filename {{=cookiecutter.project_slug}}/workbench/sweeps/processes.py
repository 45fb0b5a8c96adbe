"""Processes for trials, which have imported everything before they are needed.

Importing torch and Lightning takes longer than many trials. The next process is therefore started
while the trials before it run. Where processes can be forked, a server imports once, and each
process is forked from it in milliseconds; on Windows, each is spawned and imports by itself. As
each trial has its own process, it cannot affect others, and its memory and GPUs are free
afterwards.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil

from ..errors import UserError
from ..project import project
from . import trial_channel
from .trial_channel import Result

# `spawn` in this environment variable starts processes as on Windows.
METHOD = "WORKBENCH_START_METHOD"
# How processes import the main module of an application.
MAIN = "WORKBENCH_MAIN"
# Options of the GNU C library. With huge pages, a process with all imports is forked in half of the
# time, because there are fewer pages to list. Other systems ignore the variable.
TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb=1"

# What the processes of trials import, and their environment.
_preloaded: list[str] = []
_variables: dict[str, str] = {}
# Processes that wait for a trial.
_spares: list[tuple[BaseProcess, connection.Connection]] = []


def is_forking() -> bool:
    """Whether trials are forked from a server."""
    known = multiprocessing.get_all_start_methods()
    return "forkserver" in known and os.environ.get(METHOD) != "spawn"


def start_server(packages: Sequence[str] = (), main_module: str | None = None) -> None:
    """Start to import what trials need, which the first trial waits for.

    Args:
        packages: imported in addition.
        main_module: of an application, which is imported instead of a project.
    """
    if main_module is not None:
        _preloaded[:] = [f"{__package__}.preload_main", *packages]
        _variables[MAIN] = main_module
    else:
        own = project().package
        # Not `__main__`, which would be imported before the server knows where the project is.
        _preloaded[:] = [own, *packages, f"{__package__}.preload"]
        paths = [str(project().root), os.environ.get("PYTHONPATH")]
        _variables["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if is_forking():
        from multiprocessing import forkserver

        multiprocessing.get_context("forkserver").set_forkserver_preload(_preloaded)
        options = ":".join(filter(None, (os.environ.get(TUNABLES), HUGE_PAGES)))
        with _environment(**{TUNABLES: options}):
            forkserver.ensure_running()
    else:
        _spares.append(_start())
    # Python waits for all processes that are left, and these wait for this one.
    atexit.register(_discard_spares)


def stop_server() -> None:
    """End what `start_server` has started, which would otherwise continue to import for seconds."""
    _discard_spares()
    if is_forking():
        from multiprocessing import forkserver

        server: Any = forkserver._forkserver
        if server._forkserver_pid is not None:
            os.kill(server._forkserver_pid, signal.SIGKILL)
            os.waitpid(server._forkserver_pid, 0)
            server._forkserver_pid = None


def launch(
    variables: dict[str, str], log: Path, function: Callable[..., Any], args: Any
) -> tuple[BaseProcess, connection.Connection]:
    """Run a function in a process of its own; return the process and the channel to it.

    Args:
        variables: of its environment.
        log: for its output.
        function: what it runs.
        args: of the function.

    Raises:
        UserError: the process cannot import the project.
    """
    try:
        process, line = _spares.pop() if _spares else _start()
        # The server may not know yet that it has died. It sends nothing while it waits.
        if not process.is_alive() or line.poll():
            process, line = _start()
        line.send((variables, log, function, args))
        _spares.append(_start())
        return process, line
    except (EOFError, OSError) as error:
        guard = "; a script must call its function below `if __name__ == '__main__':`"
        raise UserError(
            "The workers cannot start: the project's modules cannot be imported, for the "
            f"reason above{'' if project().package else guard}."
        ) from error


def work(
    line: connection.Connection,
    variables: dict[str, str],
    log: Path,
    function: Callable[..., Any],
    args: tuple[Any, ...],
) -> None:
    """Run a function in this process, which was started for it, and send its result."""
    lead_group()
    # A trial starts its own processes, independently of the number of tasks of the job.
    os.environ.pop("SLURM_NTASKS", None)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_die_with, args=(parent.sentinel,), daemon=True).start()
    _write_to(log)
    os.environ.update(variables)
    if is_forking():
        # With the default method every DataLoader worker would import torch again.
        multiprocessing.set_start_method("fork", force=True)

    if (rich := sys.modules.get("rich")) is not None:
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


def lead_group() -> None:
    """Separate this process from the terminal and from the processes of the sweep.

    Ctrl-C in the terminal is for the sweep, and the processes that a trial starts can be killed
    with it.
    """
    if not hasattr(os, "setsid"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    elif os.getpid() != os.getpgid(0):
        os.setsid()


def ignore_termination() -> None:
    """Leave SIGTERM to the sweep, which lets the epochs end; Lightning would end them at once.

    A cluster sends it to all processes of a job, including this one.
    """
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def forget_huge_pages() -> None:
    """Remove what `start_server` has added: the commands that a trial starts do without it."""
    options = os.environ.get(TUNABLES, "").removesuffix(HUGE_PAGES).removesuffix(":")
    os.environ.pop(TUNABLES, None)
    if options:
        os.environ[TUNABLES] = options


def kill_group(process: BaseProcess) -> None:
    """Kill a process and all it started; its group may not exist yet."""
    assert process.pid is not None
    _kill_group(process.pid)
    if process.exitcode is None:
        process.kill()


def _kill_group(pid: int) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        return
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _discard_spares() -> None:
    while _spares:
        kill_group(_spares.pop()[0])


def _start() -> tuple[BaseProcess, connection.Connection]:
    """Start a process that imports, and then waits for its trial."""
    context: Any = multiprocessing.get_context("forkserver" if is_forking() else "spawn")
    here, there = context.Pipe()
    process = context.Process(target=_wait_for_work, args=(there, _preloaded), name="trial")
    with _environment():
        process.start()
    # Otherwise the death of the child would not close the connection.
    there.close()
    return process, here


def _wait_for_work(line: connection.Connection, modules: Sequence[str]) -> None:
    lead_group()
    for module in modules:
        # The trial says what is missing; a server ignores this error as well.
        with suppress(ImportError):
            import_module(module)
    try:
        job = line.recv()
    except EOFError:
        _leave(0)  # the sweep has ended
    work(line, *job)


@contextmanager
def _environment(**more: str) -> Iterator[None]:
    """The variables of the processes that are started within the block."""
    variables = _variables | more
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _leave(code: int) -> None:
    """Exit at once: the loggers are closed, and the usual clean-up takes time."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _die_with(sentinel: int) -> None:
    """Kill this process and all it started once that of the sweep has ended, for any reason."""
    connection.wait([sentinel])
    _kill_group(os.getpid())
    os._exit(1)


def _write_to(log: Path) -> None:
    """Redirect all output to a log, including that of child processes."""
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.close(file)
