"""Who works on a study: each command renews a lease, and one that stops renewing is gone."""

import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from optuna import Study

PREFIX = "parent:"
RENEW = 10.0  # seconds
# A lease that nobody renews for so long has run out: several times RENEW, since disks can be slow.
LEASE = 60.0


class LeaseHolders:
    """The commands that ever worked on a study, this one among them.

    A lease is a count that goes up, kept in the study. Whether it goes up is watched by our own
    clock, so that clocks of other machines need not agree with it. On the same machine the
    process itself is asked after, which spares the wait after a crash.

    Args:
        study: the study they share.
    """

    def __init__(self, study: Study) -> None:
        self.id = uuid.uuid4().hex[:8]
        self._study = study
        self._count = 0
        self._renewed = 0.0
        self._seen: dict[str, tuple[int, float]] = {}

    def join(self) -> int:
        """Take a lease; return how many there were before."""
        earlier = len(self._all())
        self._write({"host": host(), "pid": os.getpid(), "created": _created(os.getpid())})
        return earlier

    def renew(self) -> None:
        """Renew the lease, if it is time."""
        if time.monotonic() - self._renewed >= RENEW:
            self._count += 1
            self._write(self._all()[self.id] | {"count": self._count})

    def leave(self) -> None:
        """Give the lease back."""
        self._write({"left": True})

    def is_alive(self, parent: str | None) -> bool:
        """Whether a parent still holds its lease; a trial without one may be any living one's."""
        everybody = self._all()
        if parent is None:
            return any(self.is_alive(other) for other in everybody if other != self.id)
        lease = everybody.get(parent, {"left": True})
        if parent == self.id:
            return True
        if lease.get("left"):
            return False
        if lease["host"] == host():
            return _created(lease["pid"]) == lease["created"]
        count, since = self._seen.get(parent, (-1, 0.0))
        now = time.monotonic()
        if count != lease.get("count", 0):
            self._seen[parent] = (lease.get("count", 0), now)
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
    """The machine and, in containers, the space in which process numbers mean something."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _created(pid: int) -> float | None:
    """When a process started, since its number may be another's by now; None if it is gone."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        # Counted from the start of the machine: the time of day moves when somebody sets the clock.
        with suppress(OSError):
            return float(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return process.create_time()
    except psutil.NoSuchProcess:
        return None
