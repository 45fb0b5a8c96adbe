"""The packages, the machine and the model of a run, for `run.json`."""

import platform
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine import usable_cores
from .code_state import describe_code

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule
    from torch import nn

RECORDED_PACKAGES = (
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


def collect_environment(root: Path) -> dict[str, Any]:
    """Everything outside the config that can change a result.

    Args:
        root: a folder in the project's git repository.
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
    """Versions of the packages that can change a result; None for a missing one."""
    return {name: _version(name) for name in RECORDED_PACKAGES}


def describe_hardware() -> dict[str, Any]:
    """Processor, memory in GB and GPUs; thread count and instruction set change rounding."""
    import psutil
    import torch

    return {
        "host": platform.node(),
        "platform": platform.platform(),
        "cpus": usable_cores(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpus": [name_of_gpu(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
    }


def name_of_gpu(index: int) -> str:
    """The name of a GPU; a run on the CPU needs no driver that works."""
    import torch

    try:
        return torch.cuda.get_device_name(index)
    except RuntimeError:
        return "unknown: the driver does not work"


def describe_model(model: "LightningModule") -> dict[str, Any]:
    """The class of a model, its layers, and the number of all and of trained parameters."""
    parameters = list(model.parameters())
    return {
        "class": type(model).__name__,
        "parameters": sum(map(count_values, parameters)),
        "trained": sum(count_values(p) for p in parameters if p.requires_grad),
        "layers": list_layers(model),
    }


def list_layers(model: "LightningModule") -> list[dict[str, Any]]:
    """Name, description and number of parameters of every layer; metrics are left out."""
    from torchmetrics import Metric

    layers = []
    for name, module in model.named_modules():
        parameters = sum(map(count_values, module.parameters(recurse=False)))
        is_layer = next(module.children(), None) is None and not isinstance(module, Metric)
        if is_layer or parameters:
            layers.append({"name": name, "what": str(module), "parameters": parameters})
    return layers


def count_values(parameter: "nn.Parameter") -> int:
    """The number of values; 0 in a lazy module, which learns its shape from the first batch."""
    from torch.nn.parameter import UninitializedParameter

    return 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
