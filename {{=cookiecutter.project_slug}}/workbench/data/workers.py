"""How many processes may help to read files."""

from typing import Any

from ..errors import UserError
from ..machine import usable_cores

# Beyond this many, reading pictures seldom gets faster, and a container often shows more cores
# than it may use.
MOST_WORKERS = 8


def choose_workers(num_workers: Any, processes: int = 1) -> int:
    """The number of worker processes of one loader.

    Args:
        num_workers: a number, or "auto" for the cores at hand, shared by the training processes.
        processes: training processes on this machine.

    Raises:
        UserError: it is neither.
    """
    if num_workers == "auto":
        cores = usable_cores() // processes
        # A worker that shares the only core with the training just adds its own cost.
        return min(cores, MOST_WORKERS) if cores > 1 else 0
    if isinstance(num_workers, int) and not isinstance(num_workers, bool) and num_workers >= 0:
        return num_workers
    raise UserError(f"data.num_workers must be 'auto' or a whole number, not {num_workers!r}.")
