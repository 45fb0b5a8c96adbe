"""Lightning's callbacks with settings in their keys, at less cost."""

from functools import cached_property

from pytorch_lightning import Callback


class SteadyKey(Callback):
    """Remembers the key under which the callback's state lies in a checkpoint.

    Lightning asks for it before every hook of every step, and would put it together each time.
    """

    @cached_property
    def state_key(self) -> str:
        """The key, with what the callback monitors."""
        return super().state_key
