"""A signal in the middle of a line of output."""

import io
import logging
import signal
import sys
import threading
from types import FrameType

import pytest

from ..support.template_package import Part


class Slow(io.RawIOBase):
    """A terminal at which Ctrl-C is pressed while a line is being written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def writable(self) -> bool:
        """It is for output."""
        return True

    def write(self, text: object) -> int:
        """Keep what is written."""
        line = bytes(text)  # type: ignore[call-overload]
        self.written += line
        if b"epoch" in line:
            signal.raise_signal(signal.SIGUSR2)
        return len(line)


def test_signal_does_not_spoil_the_line_that_is_written(
    package: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the wrong moment printed a traceback of `logging` instead of what to do."""
    logs, log = package("runs.logs"), logging.getLogger("test of signals")
    terminal, complaints = Slow(), io.StringIO()
    stream = io.TextIOWrapper(io.BufferedWriter(terminal), encoding="utf-8", line_buffering=True)
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    # Where `logging` reports its own errors.
    monkeypatch.setattr(sys, "stderr", complaints)

    def interrupted(signum: int, frame: FrameType | None) -> None:
        logs.log_in_signal(log, logging.INFO, "press it again to stop immediately")

    threads = set(threading.enumerate())
    before = signal.signal(signal.SIGUSR2, interrupted)
    try:
        log.info("epoch 2/500")
    finally:
        signal.signal(signal.SIGUSR2, before)
        for thread in set(threading.enumerate()) - threads:
            thread.join()
        log.removeHandler(handler)
    assert complaints.getvalue() == ""
    assert terminal.written == b"epoch 2/500\npress it again to stop immediately\n"
