"""The study on disk: Optuna's journal file, safe against kills, torn lines and several writers."""

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend

from ..errors import UserError, first_line
from ..redact import redact

# So often a database is opened before it counts as out of reach.
OPENINGS = 5


class FileLock:
    """A lock that the operating system takes back from a process that dies.

    Optuna's own locks are files; one left behind by a kill holds everybody up for 30 seconds.
    It may be taken again by the one who holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._depth = 0

    def acquire(self) -> bool:
        """Wait until no other process holds the lock."""
        import fcntl

        if self._depth == 0:
            self._file = self.path.open("ab")
            fcntl.lockf(self._file, fcntl.LOCK_EX)
        self._depth += 1
        return True

    def release(self) -> None:
        """Give the lock back."""
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


class Journal(JournalFileBackend):
    """Optuna's journal, which first cuts off the line that a killed writer left unfinished.

    Whoever holds the lock meets no line in the making, so an unfinished one is a dead writer's.
    Optuna refuses to open such a file ever again.
    """

    def __init__(self, path: Path, lock: FileLock) -> None:
        # Optuna does not publish the base class of its locks; two methods are all there is.
        super().__init__(str(path), lock)  # type: ignore[arg-type]
        self._path = path
        self._held = lock
        with lock.held():
            self._cut_unfinished_line()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write the records of one operation."""
        with self._held.held():
            self._cut_unfinished_line()
            super().append_logs(logs)

    def _cut_unfinished_line(self) -> None:
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
    """The journal in the sweep's folder.

    Raises:
        UserError: the file is damaged, or no journal at all.
    """
    path = folder / "journal.log"
    try:
        return JournalStorage(Journal(path, lock))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or no journal of a study ({first_line(error)}): put a copy of it "
            "back, or move the folder away to start a new study."
        ) from error


def open_database(url: str) -> BaseStorage:
    """The database that the URL names.

    Raises:
        UserError: it cannot be reached, or its driver is not installed.
    """
    place = redact(url)
    try:
        return _make_tables(url)
    except ImportError as error:
        raise UserError(
            f"hydra.sweeper.storage={place} needs a driver that is not installed: for PostgreSQL "
            "use `uv sync --extra postgres` or `pip install 'psycopg[binary]'`."
        ) from error
    except Exception as error:
        reason = first_line(error.__cause__ or error).replace(url, place)
        raise UserError(f"hydra.sweeper.storage={place} cannot be opened: {reason}.") from error


def _make_tables(url: str) -> BaseStorage:
    """Open the database, again where several commands found it empty at the same moment."""
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    for _ in range(OPENINGS - 1):
        with suppress(IntegrityError, OperationalError, ProgrammingError):
            return get_storage(url)
        # A wait, and no secret.
        time.sleep(random.uniform(0.1, 0.3))  # nosec B311
    return get_storage(url)
