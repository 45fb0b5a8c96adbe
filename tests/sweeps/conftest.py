"""Records and objectives of sweeps that never ran."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

Part = Callable[[str], ModuleType]


@pytest.fixture(scope="module")
def make(package: Part) -> Callable[..., Any]:
    """Makes a record; by default of a trial that finished."""
    records = package("sweeps.types")

    def make_record(number: int, *values: float, state: str = "finished", **more: Any) -> Any:
        more = {"params": {}} | more
        return records.TrialRecord(number, records.State(state), values=values, **more)

    return make_record


@pytest.fixture(scope="module")
def goals(package: Part) -> Callable[..., Any]:
    """Makes objectives: `goals("max", "min")`."""
    objective = package("sweeps.types").Objective
    names = ("val/acc", "parameters", "seconds", "val/loss")
    return lambda *modes: [objective(n, mode) for n, mode in zip(names, modes, strict=False)]
