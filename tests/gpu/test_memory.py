"""Memory figures and the hint on leaks, against `torch.cuda` and allocations of known size."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from ..conftest import BakedProject
from .conftest import Measured
from .device import IS_GPU, train

COMMON = (
    *("experiment=digits", "trainer.limit_train_batches=3", "trainer.limit_val_batches=1"),
    *("trainer.num_sanity_val_steps=0", "test=false", "logger=csv"),
)


def column(folder: Path, name: str) -> list[float]:
    """The values of a column of metrics.csv."""
    with (folder / "csv" / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_figures_are_those_of_torch(
    project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """A batch size is chosen by these figures."""
    facts: dict[int, dict[str, Any]] = {}
    logged: dict[int, list[float]] = {}
    for megabytes in (1, 501):
        path = tmp_path / f"{megabytes}.json"
        witness = (
            f"+callbacks.witness={{_target_:gpu_parts.MemoryWitness,megabytes:{megabytes},"
            f"path:{path}}}"
        )
        run = train(project, tmp_path / f"run{megabytes}", *COMMON, witness, "trainer.max_epochs=3")
        facts[megabytes] = json.loads(path.read_text())
        name = "device/cuda_allocated_gb" if IS_GPU else "device/memory_gb"
        logged[megabytes] = column(run.folder, name)
        if IS_GPU:
            reserved = column(run.folder, "device/cuda_reserved_gb")
            assert reserved[-1] == pytest.approx(facts[megabytes]["reserved"] / 1e9, abs=1e-3)
            assert reserved[-1] >= logged[megabytes][-1]
    assert len(logged[1]) == 3
    if not IS_GPU:
        return
    # The last epoch, whose peak torch still knows when the training ends.
    for megabytes, fact in facts.items():
        assert logged[megabytes][-1] == pytest.approx(fact["allocated"] / 1e9, abs=1e-3)
    growth = logged[501][-1] - logged[1][-1]
    # The allocator rounds large blocks up to 2 MiB.
    assert growth == pytest.approx(0.5, abs=0.005)
    utilization = column(tmp_path / "run1", "device/cuda_percent")
    measured(
        f"allocated {logged[501][-1]:.4f} GB, torch {facts[501]['allocated'] / 1e9:.4f}; 500 MB "
        f"more raised it by {growth:.4f} GB; the driver accounts {facts[501]['used']} bytes to the "
        f"process; utilization {utilization}"
    )


@pytest.mark.parametrize("megabytes", [0, 40])
def test_leak_is_reported(
    megabytes: int, project: BakedProject, tmp_path: Path, measured: Measured
) -> None:
    """The hint is to come before the run ends for want of memory, and not without a leak."""
    leak = f"+callbacks.leak={{_target_:gpu_parts.Leak,megabytes:{megabytes}}}"
    run = train(project, tmp_path, *COMMON, "trainer.max_epochs=8", leak)
    lines = [line for line in run.log.splitlines() if "memory grew in each" in line]
    assert len(lines) == (1 if megabytes else 0)
    measured(lines[0][lines[0].index("memory grew") :][:55] if lines else "no hint without a leak")
