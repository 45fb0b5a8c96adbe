"""Sweeps with Ax, by `hydra/sweeper=ax`.

An option: it can be deleted, together with `ax.yaml` in `configs/hydra/sweeper/` and in `sampler/`
and `pruner/` there.
"""

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ...errors import UserError, nearest
from ..engines import Engine, check_algorithms
from ..optuna_engine import build_pruner, check_storage
from ..settings import Settings
from ..space import Space

OLDEST = (1, 3)
METHODS = ("fast", "quality", "random_search")
# The options of `configs/hydra/sweeper/{sampler,pruner}/ax.yaml`, for when only the name is given.
SAMPLER: dict[str, Any] = {
    "name": "ax",
    "method": "fast",
    "initialization_budget": None,
    "parameter_constraints": None,
}
PRUNER: dict[str, Any] = {
    "name": "ax",
    "percentile_threshold": 75.0,
    "min_progression": 2,
    "min_curves": 3,
}


class AxEngine(Engine):
    """Ax proposes, and prunes unless a pruner of Optuna is selected."""

    name = "ax"
    sweep = f"{__package__}.search.AxSweep"
    samplers = ("ax",)
    pruners = ("ax",)

    def check(self, settings: Settings, space: Space, folds: int | None) -> None:
        """Check the package, the options and the storage.

        Raises:
            UserError: Ax is missing or too old, or an option is invalid.
        """
        check_algorithms(settings)
        check_ax(settings.sampler, settings.pruner)
        if settings.pruner.get("name") != "ax":
            build_pruner(settings.pruner)
        check_storage(settings)

    def automatic_pruner(self, sampler: str) -> str:
        """Ax's own strategy."""
        return "ax"


def check_ax(sampler: Mapping[str, Any], pruner: Mapping[str, Any]) -> None:
    """Check the options without importing Ax, which takes seconds.

    Raises:
        UserError: Ax is missing or too old, or an option is invalid.
    """
    try:
        found = version("ax-platform")
    except PackageNotFoundError:
        found = ""
    if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST:
        state = f"found is ax-platform {found}" if found else "it is missing"
        raise UserError(
            f"A sweep by Ax needs ax-platform {'.'.join(map(str, OLDEST))} or later, and {state}: "
            "install it with `uv sync --extra ax` or `pip install -U ax-platform`."
        )
    for kind, given, known in (("sampler", sampler, SAMPLER), ("pruner", pruner, PRUNER)):
        for name in given if given["name"] == "ax" else ():
            if name not in known:
                raise UserError(f"hydra.sweeper.{kind} has no {name!r}; {nearest(name, known)}")
    if sampler.get("method", "fast") not in METHODS:
        raise UserError(
            f"hydra.sweeper.sampler.method is {', '.join(METHODS)}, not {sampler['method']!r}."
        )
    for name in PRUNER if pruner["name"] == "ax" else ():
        value = pruner.get(name, PRUNER[name])
        if name != "name" and not isinstance(value, int | float):
            raise UserError(f"hydra.sweeper.pruner.{name} is a number, not {value!r}.")


ENGINE = AxEngine()
