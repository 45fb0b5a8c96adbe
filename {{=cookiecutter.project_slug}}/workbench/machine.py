"""What the machine offers this process."""

import os


def usable_cores() -> int:
    """The cores this process may use: fewer than the machine has in a cluster job or container."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_devices(gpus: list[int]) -> str:
    """The value of CUDA_VISIBLE_DEVICES for some of the GPUs that this process sees.

    A job on a machine with other users may see GPUs 2 and 3, which it calls 0 and 1.

    Args:
        gpus: their indices among those that this process sees.
    """
    names = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    seen = [name for name in names if name]
    return ",".join(seen[gpu] if gpu < len(seen) else str(gpu) for gpu in gpus)
