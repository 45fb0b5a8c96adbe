"""A GPU: epochs beside a raw loop and Lightning barebones, and trials of a sweep that share it.

The data lie on the device; precision and compilation are the same for all. Without a CUDA device
all of it is left out. `make bench SUBJECTS=gpu` takes at most eight minutes, `gpu:minutes=4` leaves
out what does not fit. `gpu:resnet18`, `gpu:cnn`, `gpu:gpt`, `gpu:packing` and `gpu:syncs` measure a
part, `gpu:resnet18:compiled` one way of it. `gpu:tiny` tries on the processor whether all of it
runs, with sizes that say nothing about speed. Each table is printed as soon as it is measured.
"""

import math
import os
import re
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from .common import Project, baked_project, environment, use_one_thread
from .on_gpu.data import put_images_on_device, use_made_up_images
from .on_gpu.packing import print_packing
from .on_gpu.peak import measured_peak, on_data_sheet
from .on_gpu.size import ON_GPU, SHORT, TINY, Budget, Size
from .on_gpu.speed import NETS, Peaks, has, print_speed
from .on_gpu.syncs import print_syncs

PACKING, SYNCS = "packing", "syncs"
PARTS = (*NETS, PACKING, SYNCS)
WAYS = ("eager", "compiled")
MINUTES = 8.0
# With fewer, each part is smaller.
FOR_ALL = 6.0
ASK_FOR_GPU = "import torch; print(torch.cuda.is_available() and torch.cuda.get_device_name())"


@dataclass(frozen=True)
class Asked:
    """What the command asks for.

    Attributes:
        parts: names of PARTS.
        ways: names of WAYS.
        minutes: for all of it.
        size: of it.
    """

    parts: Sequence[str]
    ways: Sequence[str]
    minutes: float
    size: Size


@dataclass(frozen=True)
class Task:
    """A part to measure.

    Attributes:
        name: for the line that says that it is left out.
        least: seconds without which it cannot be measured.
        run: measures and prints.
    """

    name: str
    least: float
    run: Callable[[], None]


def main(words: Sequence[str]) -> None:
    """Measure and print: all parts, or those that are named."""
    asked = parse(words)
    size = asked.size
    budget = Budget(math.inf if size.is_tiny else 60 * asked.minutes)
    device = "processor" if size.is_tiny else name_of_gpu()
    if device is None:
        print("GPU: left out, there is no CUDA device; gpu:tiny tries the code on the processor.")
        return
    use_one_thread()
    with baked_project(hides_gpus=size.is_tiny) as project:
        limit = "" if size.is_tiny else f", at most {asked.minutes:g} minutes"
        print(f"{environment()}, {device}{limit}", flush=True)
        use_made_up_images(project, size)
        put_images_on_device(project, size.device)
        peaks = find_peaks(size, device)
        failed = []
        for task in tasks(project, asked, peaks, budget):
            if budget.left < task.least:
                print(f"\n{task.name}: left out, {budget.left:.0f} s are left.", flush=True)
                continue
            start = time.monotonic()
            if not is_measured(task):
                failed.append(task.name)
            print(f"\n({task.name}: {time.monotonic() - start:.0f} s)", flush=True)
    if failed:
        sys.exit(f"error: not measured, for the reasons above: {', '.join(failed)}.")


def parse(words: Sequence[str]) -> Asked:
    """Understand the words of the command."""
    minutes = [word.partition("=")[2] for word in words if word.startswith("minutes=")]
    plain = [word for word in words if word != "tiny" and not word.startswith("minutes=")]
    if unknown := [word for word in plain if word not in (*PARTS, *WAYS)]:
        sys.exit(
            f"error: no part {unknown[0]}; there are {', '.join((*PARTS, *WAYS))}, tiny and "
            "minutes=<number>."
        )
    if not all(re.fullmatch(r"\d+(\.\d+)?", number) for number in minutes):
        sys.exit("error: write a number of minutes, as in minutes=4.")
    is_tiny = "tiny" in words
    # Compiling takes minutes on a processor.
    ways = WAYS[:1] if is_tiny else WAYS
    limit = float(minutes[0]) if minutes else MINUTES
    return Asked(
        [word for word in plain if word in PARTS] or PARTS,
        [word for word in plain if word in WAYS] or ways,
        limit,
        TINY if is_tiny else SHORT if limit < FOR_ALL else ON_GPU,
    )


def tasks(project: Project, asked: Asked, peaks: Peaks, budget: Budget) -> Iterator[Task]:
    """The parts, the most important first: those at the end may be left out."""
    size = asked.size
    # Nothing is left out of a try.
    scale = math.inf if size.is_tiny else 1.0
    nets = [net for net in NETS if net in asked.parts]
    for net in nets:
        if not has(project, net):
            print(f"\n{net}: left out, this project has no such experiment.", flush=True)
    nets = [net for net in nets if has(project, net)]

    def speed(net: str, way: str, seconds: float, least: float) -> Task:
        is_compiled = way == "compiled"
        run = partial(print_speed, project, size, net, is_compiled, peaks, budget, seconds)
        return Task(f"{net}, {way}", least, run)

    if "eager" in asked.ways:
        for net in nets:
            yield speed(net, "eager", 45, 20)
    if SYNCS in asked.parts:
        yield Task(SYNCS, 12, partial(print_syncs, project, size, "cnn"))
    if PACKING in asked.parts:
        yield Task(PACKING, 40, partial(print_packing, project, size, budget, scale * 80))
    if "compiled" in asked.ways:
        for net in nets:
            yield speed(net, "compiled", 80, 45)


def is_measured(task: Task) -> bool:
    """Measure a part, and tell why it cannot be measured: the others are measured even so."""
    try:
        task.run()
    except Exception:
        print(f"\n{task.name} failed:\n{traceback.format_exc()}", flush=True)
        return False
    return True


def find_peaks(size: Size, device: str) -> Peaks:
    """What the device can do, once in words."""
    peaks = Peaks(on_data_sheet(device), measured_peak(size))
    known = "unknown" if peaks.on_data_sheet is None else f"{peaks.on_data_sheet:.0f} TFLOP/s"
    print(
        f"\nbf16 peak: {known} by the data sheet (dense), {peaks.measured:.3g} TFLOP/s measured "
        f"with matrices of {size.matrix} x {size.matrix}",
        flush=True,
    )
    return peaks


def name_of_gpu() -> str | None:
    """The CUDA device; None where there is none."""
    # Asked in another process: one that has asked itself can fork none that uses the GPU.
    command = (sys.executable, "-c", ASK_FOR_GPU)
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return None if name == "False" else name


if __name__ == "__main__":
    # Waiting threads would spin; read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main(sys.argv[1:])
