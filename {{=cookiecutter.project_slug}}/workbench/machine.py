"""What the machine offers this process."""

import os


def usable_cores() -> int:
    """The cores this process may use: fewer than the machine has in a cluster job or container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
