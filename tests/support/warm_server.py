"""Runs commands of projects in forks of one process that has done the heavy imports.

A command of a project spends most of its time on importing torch and Lightning. Each fork has the
folder, the environment variables, the arguments, the output and the exit code of the real command;
what it cannot show is the time that a start takes and which modules a command imports. Tests of
these start a new interpreter.

For each project the server forks a second one, which has also imported the project's own modules.
It is replaced when one of these files has changed. Commands with variables of their own do without,
as modules may read variables when they are imported.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import process, util
from pathlib import Path
from typing import Any, NoReturn, TextIO

HEAVY = (
    "hydra",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "optuna.importance",
    "optuna.visualization",
    "plotly.graph_objects",
    "pytorch_lightning",
    "sklearn.datasets",
    "sklearn.ensemble",
    "sklearn.model_selection",
    "torch._dynamo",
    "torch.utils.tensorboard",
    "torchvision.models",
)
PROJECT = (
    "workbench.cli",
    "workbench.dry_run",
    "workbench.evaluation",
    "workbench.prediction",
    "workbench.sweeps.engines",
    "workbench.sweeps.figures",
    "workbench.sweeps.loop",
    "workbench.sweeps.optuna_engine",
    "workbench.sweeps.results",
)
# Each keeps some memory of its own.
MOST_PROJECTS = 3
IMPORTS_PROJECTS = "--imports-projects"
# Importing torch sets some variables, which the forks do without.
VARIABLES = dict(os.environ)
# Variables that no module of a project reads.
UNREAD = ("COOKIECUTTER_CONFIG", "CUDA_VISIBLE_DEVICES", "PWD", "PYTEST_CURRENT_TEST")


class ProjectServer:
    """A fork of the server that has imported the modules of a project.

    Args:
        root: the project's folder.
        answers: where it tells how its own forks ended.
    """

    def __init__(self, root: Path, answers: TextIO) -> None:
        self.files = modification_times(root)
        requests, self._requests = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._requests)
            os.chdir(root)
            sys.path[0] = str(root)
            package = next(root.glob("*/training.py")).parent.name
            own = (f"{package}.{part}" for part in ("training", "data", "models"))
            for module in (*own, *PROJECT):
                # Whatever is wrong with it, the command itself is to say.
                with suppress(Exception):
                    importlib.import_module(module)
            gc.freeze()
            serve(requests, answers)
            os._exit(0)
        os.close(requests)

    def send(self, line: bytes) -> None:
        """Pass a request on."""
        os.write(self._requests, line + b"\n")

    def close(self) -> None:
        """Let it end once its forks have."""
        os.close(self._requests)


def modification_times(root: Path) -> dict[str, int]:
    """When each Python file of a project was changed, except its tests, in nanoseconds."""
    return {
        str(file): file.stat().st_mtime_ns
        for folder in root.iterdir()
        if folder.is_dir() and folder.name not in {"logs", "tests", "data", ".git"}
        for file in folder.rglob("*.py")
    }


def essential(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that may matter when a project's modules are imported."""
    return {name: value for name, value in variables.items() if name not in UNREAD}


class Projects:
    """The servers of the projects that commands ran in last."""

    def __init__(self, answers: TextIO) -> None:
        self._answers = answers
        self._servers: dict[Path, ProjectServer] = {}

    def server_for(self, request: dict[str, Any]) -> ProjectServer | None:
        """The server that a request can be passed to."""
        root = Path(request["cwd"])
        is_usual = essential(request["variables"]) == essential(VARIABLES)
        if not is_usual or not list(root.glob("*/training.py")):
            return None
        server = self._servers.pop(root, None)
        if server is not None and server.files != modification_times(root):
            server.close()
            server = None
        self._servers[root] = server or ProjectServer(root, self._answers)
        while len(self._servers) > MOST_PROJECTS:
            self._servers.pop(next(iter(self._servers))).close()
        return self._servers[root]

    def close(self) -> None:
        """End all servers."""
        for server in self._servers.values():
            server.close()
        self._servers.clear()


def start() -> None:
    """Import what is heavy, then serve."""
    modules = [word for word in sys.argv[1:] if word != IMPORTS_PROJECTS]
    # What an import leaves behind is no garbage: looking for some takes a seventh of the time.
    gc.disable()
    for module in modules:
        importlib.import_module(module)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What a fork prints must not get between the answers.
    os.dup2(2, 1)
    imports_projects = len(modules) < len(sys.argv) - 1
    # Collections in the forks would copy the pages of all that was imported.
    gc.freeze()
    gc.enable()
    serve(0, answers, Projects(answers) if imports_projects else None)


def serve(requests: int, answers: TextIO, projects: Projects | None = None) -> None:
    """Fork for each request, and tell how each fork ended.

    Args:
        requests: a descriptor to read them from, a line each.
        answers: gets a line for each fork that has ended.
        projects: servers to pass requests on to.
    """
    numbers: dict[int, int] = {}
    pending = b""
    is_open = True
    while is_open or numbers:
        if is_open and select.select([requests], [], [], 0.01)[0]:
            received = os.read(requests, 1 << 20)
            is_open = bool(received)
            if not is_open and projects is not None:
                projects.close()
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                server = projects.server_for(request) if projects is not None else None
                if server is not None:
                    server.send(line)
                    continue
                child = os.fork()
                if child == 0:
                    answers.close()
                    become(request)
                numbers[child] = request["number"]
                started = {"number": request["number"], "pid": child}
                print(json.dumps(started), file=answers, flush=True)
        elif not is_open:
            select.select([], [], [], 0.01)
        with suppress(ChildProcessError):
            while found := os.waitpid(-1, os.WNOHANG):
                if found[0] == 0:
                    break
                if found[0] in numbers:
                    code = os.waitstatus_to_exitcode(found[1])
                    answer = {"number": numbers.pop(found[0]), "code": code}
                    print(json.dumps(answer), file=answers, flush=True)


def become(request: dict[str, Any]) -> NoReturn:
    """Be the command, in a fork, and end with its exit code as an interpreter does.

    All but one step: an interpreter also takes apart what was imported, which copies every page of
    it in a fork, and takes several times as long as a short command.
    """
    code: object = 0
    try:
        run_command(request)
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1 if isinstance(error, Exception) else -signal.SIGINT
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    # As an interpreter does: wait for threads, call what was registered, write what is buffered.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # closed
            stream.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(int(code or 0))  # type: ignore[call-overload]


def run_command(request: dict[str, Any]) -> None:
    """Run the command with its folder, variables, arguments and output."""
    out, err = request["places"]
    if out == err:
        # Left running: a test may send it Ctrl-C as a terminal does, to all of its processes.
        os.setsid()
        # Jobs in the background are started without it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    # A named pipe is removed as soon as it has been opened.
    opened = {name: os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in {out, err}}
    os.dup2(opened[out], 1)
    os.dup2(opened[err], 2)
    if request.get("seconds") is not None:
        faulthandler.dump_traceback_later(request["seconds"], exit=True)
    os.environ.clear()
    os.environ.update(request["variables"])
    os.chdir(request["cwd"])
    # Where the workers of a sweep look for its script.
    process.ORIGINAL_DIR = request["cwd"]  # type: ignore[attr-defined]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [request["cwd"], *filter(None, paths)]
    # A new interpreter would import it.
    for folder in filter(None, paths):
        if (custom := Path(folder, "sitecustomize.py")).is_file():
            runpy.run_path(str(custom))
    util.spawnv_passfds = spawn_or_fork  # type: ignore[assignment]
    # A new interpreter would not draw what the last fork drew.
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    first, *rest = request["command"]
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    elif first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        sys.path[0] = str(Path(first).absolute().parent)
        runpy.run_path(first, run_name="__main__")


def spawn_or_fork(path: bytes, arguments: Sequence[Any], kept: Sequence[int]) -> int:
    """Start the fork server of a sweep as a fork too, so that it need not import everything again.

    Like a new interpreter it inherits no open files but the `kept` ones: with the others it would
    not notice that the sweep has died.
    """
    if "multiprocessing.forkserver" not in arguments[-1]:
        return spawn(path, arguments, kept)
    from hydra.core.global_hydra import GlobalHydra

    child = os.fork()
    if child == 0:
        try:
            for entry in list(Path("/proc/self/fd").iterdir()):
                descriptor = int(entry.name)
                if descriptor > 2 and descriptor not in kept:
                    with suppress(OSError):
                        os.close(descriptor)
            # As in a new interpreter, Hydra has seen no command.
            GlobalHydra.instance().clear()
            exec(arguments[-1], {"__name__": "__main__"})
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


spawn = util.spawnv_passfds

if __name__ == "__main__":
    start()
    os._exit(0)
