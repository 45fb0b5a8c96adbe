"""A live bar on a terminal, nothing elsewhere (the log has one line per epoch)."""

import sys

from pytorch_lightning.callbacks import ProgressBar, RichProgressBar


class NoProgressBar(ProgressBar):
    """Shows nothing: keeps Lightning from adding a bar that fills log files."""

    def disable(self) -> None:
        """Nothing to switch off."""

    def enable(self) -> None:
        """Nothing to switch on."""


def progress_bar(refresh_rate: int = 1) -> ProgressBar:
    """A bar if the output goes to a terminal.

    Args:
        refresh_rate: batches between two updates.
    """
    return RichProgressBar(refresh_rate=refresh_rate) if sys.stdout.isatty() else NoProgressBar()
