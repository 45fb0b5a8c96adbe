"""The study on disk: Optuna's journal or a database, and the commands that work on it."""

import json
import os
import random
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import psutil
from optuna import Study
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from ..errors import UserError, first_line
from ..redact import redact

# Attempts to open a database before it counts as unreachable.
ATTEMPTS = 5

# Prefix of the study's attributes that hold leases.
PREFIX = "holder:"
RENEW = 10.0  # seconds
# A lease that is not renewed for this long has expired: several times RENEW, as disks can be slow.
LEASE = 60.0


class FileLock:
    """A reentrant lock that the operating system releases when its process dies.

    Optuna's own locks are files; one left behind by a killed process blocks all others for 30
    seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._depth = 0
        self._batches = 0
        # Files that are not durable yet.
        self._written: set[Path] = set()

    def acquire(self) -> bool:
        """Wait until no other process holds the lock."""
        if self._depth == 0:
            self._file = self.path.open("ab")
            _lock(self._file)
        self._depth += 1
        return True

    def release(self) -> None:
        """Release the lock once for each `acquire`."""
        self._depth -= 1
        if self._depth == 0 and self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Wait for the disk once, at the end of a block; it does not hold the lock."""
        self._batches += 1
        try:
            yield
        finally:
            self._batches -= 1
            self.sync()

    def sync(self, *paths: Path) -> None:
        """Make files durable, at the end of the batch if there is one."""
        self._written.update(paths)
        while self._written and not self._batches:
            with self._written.pop().open("ab") as file:
                os.fsync(file.fileno())


def _lock(file: IO[bytes]) -> None:
    """Lock an open file until it is closed, as soon as no other process has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        while True:
            # Fails after ten seconds.
            with suppress(OSError):
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined, unused-ignore]
                return
    fcntl.lockf(file, fcntl.LOCK_EX)


class Journal(JournalFileBackend):
    """Optuna's journal, which first removes an incomplete last line.

    Optuna cannot open a file with such a line. While the lock is held nobody is writing, so an
    incomplete line was left by a process that was killed.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        # Optuna does not publish the base class of its locks, which has only these two methods.
        super().__init__(str(path), lock)  # type: ignore[arg-type]
        self._path = path
        self._held = lock
        with lock.held():
            self._remove_incomplete_line()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write the records of one operation."""
        lines = "".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in logs)
        with self._held.held():
            self._remove_incomplete_line()
            with self._path.open("ab") as file:
                file.write(lines.encode("utf-8"))
            # A running trial whose last reports are lost with the power repeats them, so that these
            # can wait for the next record of another kind.
            if any("intermediate_value" not in entry for entry in logs):
                self._held.sync(self._path)

    def _remove_incomplete_line(self) -> None:
        with self._path.open("r+b") as file:
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 4096)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)


def open_journal(folder: Path, lock: FileLock) -> BaseStorage:
    """Open the journal in the sweep's folder.

    Raises:
        UserError: the file is damaged or not a journal.
    """
    path = folder / "journal.log"
    try:
        return JournalStorage(Journal(path, lock))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or not the journal of a study ({first_line(error)}): restore a "
            "copy of it, or move the folder away to start a new study."
        ) from error


def open_database(url: str) -> BaseStorage:
    """Open the database at this URL.

    Raises:
        UserError: it cannot be reached, or its driver is not installed.
    """
    place = redact(url)
    try:
        return _open_or_create(url)
    except ImportError as error:
        raise UserError(
            f"hydra.sweeper.storage={place} needs a driver that is not installed: for PostgreSQL "
            "use `uv sync --extra postgres` or `pip install 'psycopg[binary]'`."
        ) from error
    except Exception as error:
        reason = first_line(error.__cause__ or error).replace(url, place)
        raise UserError(f"hydra.sweeper.storage={place} cannot be opened: {reason}.") from error


def _open_or_create(url: str) -> BaseStorage:
    """Open the database; retry, as several commands may create its tables at the same time."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for _ in range(ATTEMPTS - 1):
        with suppress(IntegrityError, OperationalError, ProgrammingError):
            return get_storage(url)
        # Not used for cryptography.
        time.sleep(random.uniform(0.1, 0.3))  # nosec B311
    return get_storage(url)


class LeaseHolders:
    """The commands that have ever worked on a study, including this one.

    A lease is a counter in the study. Other commands observe with their own clock whether it
    increases, so the clocks of different machines need not agree. On the same machine the process
    itself is looked up, which avoids the wait after a crash.

    Args:
        study: the study that the commands share.
    """

    def __init__(self, study: Study) -> None:
        self.id = uuid.uuid4().hex[:8]
        self._study = study
        self._count = 0
        self._renewed = 0.0
        self._seen: dict[str, tuple[int, float]] = {}

    def join(self) -> int:
        """Take a lease; return the number of earlier ones."""
        earlier = len(self._all())
        self._write({"host": host(), "pid": os.getpid(), "created": _created(os.getpid())})
        return earlier

    def renew(self) -> None:
        """Renew the lease if it is due."""
        if time.monotonic() - self._renewed >= RENEW:
            self._count += 1
            self._write(self._all()[self.id] | {"count": self._count})

    def leave(self) -> None:
        """Release the lease."""
        self._write({"left": True})

    def is_alive(self, holder: str | None) -> bool:
        """Whether a lease is still held; None stands for any of the others."""
        leases = self._all()
        if holder is None:
            return any(self.is_alive(other) for other in leases if other != self.id)
        lease = leases.get(holder, {"left": True})
        if holder == self.id:
            return True
        if lease.get("left"):
            return False
        if lease["host"] == host():
            return _created(lease["pid"]) == lease["created"]
        count, since = self._seen.get(holder, (-1, 0.0))
        now = time.monotonic()
        if count != lease.get("count", 0):
            self._seen[holder] = (lease.get("count", 0), now)
            return True
        return now - since < LEASE

    def _all(self) -> dict[str, dict[str, Any]]:
        attributes = self._study.user_attrs
        return {
            key.removeprefix(PREFIX): lease
            for key, lease in attributes.items()
            if key.startswith(PREFIX)
        }

    def _write(self, lease: dict[str, Any]) -> None:
        self._study.set_user_attr(f"{PREFIX}{self.id}", lease)
        self._renewed = time.monotonic()


def host() -> str:
    """The machine and, in containers, the namespace in which process IDs are valid."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _created(pid: int) -> float | None:
    """When a process was started, as IDs are reused; None if there is no such process."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        # In clock ticks since boot: the time of day changes when somebody sets the clock.
        with suppress(OSError):
            return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return process.create_time()
    except psutil.NoSuchProcess:
        return None
