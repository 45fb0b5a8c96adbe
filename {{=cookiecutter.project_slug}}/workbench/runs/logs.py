"""The log of a run, in a file and on the console."""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..redact import redact_record

# `log.info(text, extra=FILE_ONLY)`: for texts too long for the console.
FILE_ONLY = {"file_only": True}


def console_handler() -> logging.Handler:
    """A handler that leaves a live progress bar intact on a terminal, and is plain elsewhere."""
    if sys.stdout.isatty():
        from rich.logging import RichHandler

        handler: logging.Handler = RichHandler(show_path=False, show_level=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("[%(asctime)s] %(message)s", datefmt="%H:%M:%S"))
    handler.addFilter(lambda record: not hasattr(record, "file_only"))
    handler.addFilter(redact_record)
    return handler


def log_in_signal(log: logging.Logger, level: int, text: str) -> None:
    """Log from a handler of signals.

    The signal may have interrupted a line that is being written to the same stream, which Python
    does not allow to enter again. Another thread waits until that line is complete.
    """
    threading.Thread(target=log.log, args=(level, text)).start()


class RunLog(logging.FileHandler):
    """A log file without secrets, which reports only once that it cannot be written."""

    _is_reported = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.addFilter(redact_record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Report a file that cannot be written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_reported:
            self._is_reported = True
            print(f"{self.baseFilename} cannot be written: {error.strerror}", file=sys.stderr)


# Repeated by every run, and useless to readers of the log.
NOISE = (
    "litlogger",
    "LeafSpec",
    "TPU available",
    # The callback time_limit does obey it.
    "Ignoring `Trainer(max_time",
)


def not_noise(record: logging.LogRecord) -> bool:
    """Whether a line is worth reading."""
    message = record.getMessage()
    return not any(word in message for word in NOISE)


def capture_everything() -> None:
    """Send Lightning's messages and all warnings to the run's log.

    If Lightning is imported before logging is set up, it gives its logger its own console handler,
    and its messages do not reach the log file.
    """
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        handler.addFilter(not_noise)


@contextmanager
def without_lightnings_lines() -> Iterator[None]:
    """Silence what Lightning logs about every trainer, except for warnings."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def mute_other_processes() -> None:
    """Keep a process other than the first from repeating the messages of the first."""
    logging.getLogger().setLevel(logging.ERROR)
