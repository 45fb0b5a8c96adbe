"""`run.json`: what was run on which machine, for how long, and how it ended."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..files import replace_text
from ..hydra_errors import explain
from ..redact import redact
from .ending import EXIT_CODES, Ending, ending_by

log = logging.getLogger(__name__)

MANIFEST = "run.json"


def now() -> str:
    """The time in UTC as ISO 8601, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read a run's manifest; empty if there is none or it cannot be read."""
    try:
        content = json.loads((directory / MANIFEST).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class Manifest:
    """The manifest of the run in progress, rewritten at every change after `begin`.

    Args:
        directory: the run's folder.
        content: the first entries.
        enabled: False in all processes but the first.
    """

    def __init__(self, directory: Path, content: dict[str, Any], enabled: bool = True) -> None:
        self.path = directory / MANIFEST
        self.enabled = enabled
        self._has_begun = False
        self._start = time.perf_counter()
        self.content = content | {"status": "running", "started": now(), "timings": {}}

    def begin(self) -> None:
        """Start to write; a command that is rejected earlier leaves an earlier run unchanged."""
        self._has_begun = True
        self._write()

    def update(self, **values: Any) -> None:
        """Add or replace entries."""
        self.content.update(values)
        self._try_to_write()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure the seconds of a stage, which are written with the next change."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.content["timings"][name] = round(time.perf_counter() - start, 3)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record how the run ended: finished, interrupted or failed; and its total seconds."""
        try:
            yield
        except (KeyboardInterrupt, SystemExit) as error:
            ending = ending_by(error)
            self.note_ending(ending)
            self._end(status="interrupted")
            if ending.cause in EXIT_CODES:
                raise SystemExit(EXIT_CODES[ending.cause]) from error
            raise
        except BaseException as error:
            self.note_ending(ending_by(error))
            # A bug in the user's code is worth a record, even before `begin`.
            self._has_begun |= explain(error) is None
            self._end(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        self._end(status="finished")

    def note_ending(self, ending: Ending) -> None:
        """Note why training ended, for the next change; later errors do not change it."""
        if "ended_because" not in self.content:
            self.content.update(ended_because=ending.cause, ended_text=ending.text)

    def _end(self, **values: Any) -> None:
        self.content["timings"]["total"] = round(time.perf_counter() - self._start, 3)
        self.update(ended=now(), **values)

    def _try_to_write(self) -> None:
        """Write if possible: a full disk must neither end a run nor hide how it ended."""
        try:
            self._write()
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error.strerror)

    def _write(self) -> None:
        if not (self.enabled and self._has_begun):
            return
        entries = [
            f"  {json.dumps(key)}: {_finished(json.dumps(value, default=str))}"
            for key, value in self.content.items()
        ]
        replace_text(self.path, "{\n" + ",\n".join(entries) + "\n}\n")


@lru_cache(maxsize=64)
def _finished(text: str) -> str:
    """The JSON of an entry, indented and without secrets.

    The encoder is slow when it indents, looking for secrets takes even longer, and most entries
    never change.
    """
    return redact(json.dumps(json.loads(text), indent=2)).replace("\n", "\n  ")
