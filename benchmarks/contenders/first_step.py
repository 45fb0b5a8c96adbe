"""A callback that ends the process after the first optimizer step, so that this can be timed."""

import os
from typing import Any

from pytorch_lightning import Callback


class FirstStep(Callback):
    """Ends the process where a training has only begun."""

    def on_train_batch_end(self, *args: Any) -> None:
        """End it at once: no test, no files, no goodbye."""
        os._exit(0)
