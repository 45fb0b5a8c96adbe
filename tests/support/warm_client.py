"""The tests' side of the warm server: runs commands in its forks, or starts them."""

import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from .warm_server import HEAVY, IMPORTS_PROJECTS

SERVER = str(Path(__file__).with_name("warm_server.py"))


class WarmProcess:
    """A command that the server runs, with what the tests use of `subprocess.Popen`.

    Attributes:
        pid: the fork's.
        returncode: as that of `Popen`, None while the command runs.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self.has_started, self.has_ended = threading.Event(), threading.Event()
        self._output = -1

    def poll(self) -> int | None:
        """The exit code, None while the command runs."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the command, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def open(self, place: str) -> None:
        """Connect to the command's output, a named pipe."""
        self._output = os.open(place, os.O_RDONLY)
        self.has_started.wait()

    def read_until(self, words: str) -> str:
        """Wait until the command has printed something, and return what it has printed before.

        Raises:
            AssertionError: it has ended without.
        """
        received = b""
        while words.encode() not in received:
            part = os.read(self._output, 1 << 16)
            assert part, received.decode()
            received += part
        return received.decode()

    def communicate(self, timeout: float = 1000) -> tuple[str, None]:
        """Wait for the end of the command and of all that it has started, and return its output.

        Raises:
            subprocess.TimeoutExpired: the command takes longer than `timeout` seconds.
        """
        end = time.monotonic() + timeout
        received = b""
        while select.select([self._output], [], [], max(0, end - time.monotonic()))[0]:
            if not (part := os.read(self._output, 1 << 16)):
                break
            received += part
        os.close(self._output)
        if not self.has_ended.wait(max(0, end - time.monotonic())):
            raise subprocess.TimeoutExpired("a warm command", timeout, received)
        return received.decode("utf-8", errors="replace"), None


class WarmServer:
    """The client's side: starts the server when it is first needed, and ends it with the tests."""

    def __init__(
        self,
        variables: dict[str, str],
        modules: tuple[str, ...] = HEAVY,
        imports_projects: bool = False,
    ) -> None:
        self._variables = variables
        self._arguments = (*([IMPORTS_PROJECTS] if imports_projects else []), *modules)
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._running: dict[int, WarmProcess] = {}
        self._count = 0

    def run(
        self,
        command: tuple[str, ...],
        cwd: Path,
        variables: dict[str, str],
        seconds: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `script.py option ...`, `-c code ...` or `-m module ...`; threads may share it.

        Args:
            command: the words after `python`.
            cwd: the folder to run in.
            variables: the environment variables.
            seconds: after these it ends with a traceback of all threads; None for no limit.
        """
        with tempfile.TemporaryDirectory() as folder:
            places = [str(Path(folder, name)) for name in ("stdout", "stderr")]
            process = self._request(command, cwd, variables, places, seconds)
            process.has_ended.wait()
            out, err = (Path(place).read_text("utf-8", errors="replace") for place in places)
        assert process.returncode is not None
        return subprocess.CompletedProcess(["python", *command], process.returncode, out, err)

    def start(self, command: tuple[str, ...], cwd: Path, variables: dict[str, str]) -> WarmProcess:
        """Start a command and leave it running, in a session of its own, as a terminal does."""
        with tempfile.TemporaryDirectory() as folder:
            place = str(Path(folder, "output"))
            # The reader of a pipe notices when the last writer has ended.
            os.mkfifo(place)
            process = self._request(command, cwd, variables, [place] * 2)
            process.open(place)
        return process

    def close(self) -> None:
        """End the server."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()

    def _request(
        self,
        command: tuple[str, ...],
        cwd: Path,
        variables: dict[str, str],
        places: list[str],
        seconds: float | None = None,
    ) -> WarmProcess:
        """Let the server run a command; `places` are files for its output and its errors."""
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._count += 1
            process = self._running[self._count] = WarmProcess()
            request = {"number": self._count, "command": command, "cwd": str(cwd)}
            request |= {"variables": variables, "places": places, "seconds": seconds}
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return process

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, SERVER, *self._arguments],
            env=self._variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "pid" in answer:
                process = self._running[answer["number"]]
                process.pid = answer["pid"]
                process.has_started.set()
            else:
                process = self._running.pop(answer["number"])
                process.returncode = answer["code"]
                process.has_ended.set()
        # The server has died: nobody may wait for it.
        for process in self._running.values():
            process.returncode = -1
            process.has_started.set()
            process.has_ended.set()
