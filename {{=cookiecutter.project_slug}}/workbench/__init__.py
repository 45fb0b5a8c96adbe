"""The infrastructure of a training project: runs, callbacks, data, evaluation and sweeps.

In a notebook, `from workbench import load_run` loads a finished run.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .loading import Run, load_model, load_run

__version__ = "0.2.0"
__all__ = ["Run", "load_model", "load_run"]


def __getattr__(name: str) -> Any:
    """Import what is loaded only on demand: `python train.py --help` answers without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import loading

    return getattr(loading, name)
