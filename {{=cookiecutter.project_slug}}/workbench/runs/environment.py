"""The code, the packages and the machine of a run."""

import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..machine import usable_cores
from .code_state import describe_code

PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "optuna",
    "numpy",
    "polars",
    "scikit-learn",
    "pillow",
)


def describe_environment(root: Path) -> dict[str, Any]:
    """Everything outside the config that can change a result.

    Args:
        root: a folder of the project, to ask git about.
    """
    return {
        "git": describe_code(root),
        "python": platform.python_version(),
        "packages": dict(versions()),
        "hardware": describe_hardware(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


@cache
def versions() -> dict[str, str | None]:
    """Versions of the packages that can change a result; None where one is missing."""
    return {name: _version(name) for name in PACKAGES}


def describe_hardware() -> dict[str, Any]:
    """Processor, memory in GB and GPUs; the number of threads and the instructions change sums."""
    import psutil
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": usable_cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": gpus,
        "cuda": torch.version.cuda,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
