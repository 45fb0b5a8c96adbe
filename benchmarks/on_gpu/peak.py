"""What a network needs and what a GPU can do: floating-point operations, counted and a second."""

import time
from dataclasses import replace
from typing import Any

from ..common import Project
from .data import use_made_up_images
from .size import Size, in_a_fork

TERA = 1e12
# Dense bf16 on tensor cores, TFLOP/s, by the name that the driver gives. NVIDIA's data sheets of
# these cards state twice as much for those with sparsity, as "bfloat16 tensor core".
DATA_SHEETS = {
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.4,
    "H200 NVL": 835.0,
    "H200": 989.4,
    "A100": 312.0,
    "L40S": 362.0,
    "L4": 121.0,
    "A10": 125.0,
}


def on_data_sheet(name: str) -> float | None:
    """TFLOP/s of a card by its data sheet; None for one that is not listed."""
    words = name.split()
    for known, peak in DATA_SHEETS.items():
        # As words: A10 is no A100.
        if all(word in words for word in known.split()):
            return peak
    return None


def measured_peak(size: Size) -> float:
    """TFLOP/s of multiplying large bf16 matrices, the best of five tries."""
    return float(in_a_fork(lambda: multiply(size)))


def multiply(size: Size) -> float:
    """Multiply in this process."""
    import torch

    shape = (size.matrix, size.matrix)
    a, b = (torch.randn(shape, device=size.device, dtype=torch.bfloat16) for _ in range(2))
    repeats = 2 if size.is_tiny else 30
    best = 0.0
    for _ in range(5):
        wait(size)
        start = time.perf_counter()
        for _ in range(repeats):
            a @ b
        wait(size)
        best = max(best, repeats * 2 * size.matrix**3 / (time.perf_counter() - start))
    return best / TERA


def wait(size: Size) -> None:
    """Wait until the device has done all that it was told."""
    import torch

    if size.device == "cuda":
        torch.cuda.synchronize()


def count_operations(project: Project, size: Size, cfg: Any) -> float:
    """Floating-point operations of a sample, forward and backward, without the optimizer.

    Multiplications and additions count one each; what torch does not count, such as batch
    normalization, is left out.
    """
    return float(in_a_fork(lambda: counted(project, size, cfg)))


def counted(project: Project, size: Size, cfg: Any) -> float:
    """Count in this process, on the CPU: a forward and backward pass of two samples."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from ..contenders.loops import cross_entropy

    use_made_up_images(project, replace(size, train=90, val=10, batch_size=10))
    # Not the training's own, which moves the data to the device.
    assembly = project.library("assembly")
    datamodule = assembly.build_datamodule(cfg)
    net = assembly.build_model(cfg, datamodule).net
    x, y = next(iter(datamodule.train_dataloader()))
    # Fused attention is an operation of its own on each device, and not always counted.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        cross_entropy(net(x[:2]), y[:2]).backward()  # type: ignore[no-untyped-call]
    return counter.get_total_flops() / 2
