"""The Optuna engine: its samplers, which propose, its pruners, which judge, and their checks."""

import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..errors import UserError, nearest
from .engines import Engine, check_algorithms
from .promotion import PROMOTE, read_options
from .settings import Settings
from .space import Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

SAMPLERS = {
    "bruteforce": "BruteForceSampler",
    "cmaes": "CmaEsSampler",
    "gp": "GPSampler",
    # All configurations are queued beforehand, so the sampler does not matter.
    "grid": "RandomSampler",
    "nsga2": "NSGAIISampler",
    "nsga3": "NSGAIIISampler",
    "qmc": "QMCSampler",
    "random": "RandomSampler",
    "tpe": "TPESampler",
}
PRUNERS = {
    "asha": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "median": "MedianPruner",
    "none": "NopPruner",
    "patient": "PatientPruner",
    "percentile": "PercentilePruner",
    "threshold": "ThresholdPruner",
    "wilcoxon": "WilcoxonPruner",
}
NEEDS = {"cmaes": "cmaes", "gp": "scipy", "qmc": "scipy", "wilcoxon": "scipy"}


class OptunaEngine(Engine):
    """Optuna's samplers and pruners."""

    name = "optuna"
    sweep = f"{__package__}.loop.AskTellSweep"
    # Implemented by `PromotingSearch`, as Optuna's pruners cannot resume a trial.
    pruners = (PROMOTE,)

    def check(self, settings: Settings, space: Space, folds: int | None) -> None:
        """Build the sampler and the pruner, and open the database if there is one.

        Raises:
            UserError: no such sampler, pruner or option, or a database that cannot be opened.
        """
        check_algorithms(settings)
        build_sampler(settings.sampler, 0)
        if settings.pruner.get("name") == PROMOTE:
            read_options(settings.pruner)
        else:
            build_pruner(settings.pruner)
        check_storage(settings)

    def automatic_pruner(self, sampler: str) -> str:
        """Needs the fewest epochs; `automatic_pruner` replaces it where trials cannot pause."""
        return PROMOTE


def check_storage(settings: Settings) -> None:
    """Open the database of the study, if it is not a file.

    Raises:
        UserError: it cannot be opened.
    """
    if settings.storage is not None:
        from .storage import open_database

        open_database(settings.storage)


def build_sampler(config: dict[str, Any], seed: int | None) -> "BaseSampler":
    """The sampler of `configs/hydra/sweeper/sampler/`.

    Raises:
        UserError: no such sampler or option, or a package that it needs is missing.
    """
    return _build("sampler", SAMPLERS, config | {"seed": seed})


def build_pruner(config: dict[str, Any]) -> "BasePruner":
    """The pruner of `configs/hydra/sweeper/pruner/`.

    Raises:
        UserError: no such pruner or option, or a package that it needs is missing.
    """
    config = dict(config)
    if isinstance(config.get("wrapped_pruner"), dict):
        config["wrapped_pruner"] = build_pruner(config["wrapped_pruner"])
    return _build("pruner", PRUNERS, config)


def _build(kind: str, known: dict[str, str], config: dict[str, Any]) -> Any:
    options = {key: value for key, value in config.items() if key != "name"}
    name = str(config.get("name"))
    if name not in known:
        raise UserError(f"There is no {kind} {name!r}; {nearest(name, known)}")
    package = NEEDS.get(name)
    if package is not None and find_spec(package) is None:
        raise UserError(
            f"hydra/sweeper/{kind}={name} needs the package {package}: install it with "
            f"`uv sync --extra {package}` or `pip install {package}`."
        )
    from optuna.exceptions import ExperimentalWarning

    module = import_module(f"optuna.{kind}s")
    try:
        with warnings.catch_warnings():
            # Most options of Optuna have been experimental for years.
            warnings.simplefilter("ignore", ExperimentalWarning)
            return getattr(module, known[name])(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"hydra.sweeper.{kind} ({name}) has a wrong option: {error}.") from error


ENGINE = OptunaEngine()
