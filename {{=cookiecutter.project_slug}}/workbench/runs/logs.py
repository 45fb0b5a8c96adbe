"""The run's log: everything in a file, the same on the console."""

import logging
import sys
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


class RunLog(logging.FileHandler):
    """A log file without secrets; that it cannot be written is told once, not with every line."""

    _is_told = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.addFilter(redact_record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say what is wrong with the file."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_told:
            self._is_told = True
            print(f"{self.baseFilename} cannot be written: {error.strerror}", file=sys.stderr)


# Said by every run, and of no use to the person who reads the log.
NOISE = (
    "litlogger",
    "LeafSpec",
    "TPU available",
    # Obeyed all the same, by callbacks.time_limit.
    "Ignoring `Trainer(max_time",
)


def not_noise(record: logging.LogRecord) -> bool:
    """False for the lines that every run repeats."""
    message = record.getMessage()
    return not any(word in message for word in NOISE)


def capture_everything() -> None:
    """Send Lightning's lines and all warnings through the run's log.

    Lightning gives its logger a console handler of its own when it is imported before logging is
    set up, and its lines then miss the log file.
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
    """Keep what Lightning says of every trainer to the run's own one; warnings still come."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def mute_other_processes() -> None:
    """Keep all but the first process of a run from repeating its lines."""
    logging.getLogger().setLevel(logging.ERROR)
