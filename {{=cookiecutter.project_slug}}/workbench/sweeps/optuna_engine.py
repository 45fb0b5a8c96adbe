"""The Optuna engine: what it can do, and the checks of its settings."""

from .engines import Engine, check_algorithms
from .samplers import build_pruner, build_sampler
from .settings import Settings
from .space import Space


class OptunaEngine(Engine):
    """Optuna's samplers and pruners."""

    name = "optuna"
    sweep = f"{__package__}.sweeper.AskTellSweep"

    def check(self, settings: Settings, space: Space, folds: int | None) -> None:
        """Build the sampler and the pruner, and open the database if there is one.

        Raises:
            UserError: no such sampler, pruner or option, or a database that cannot be opened.
        """
        check_algorithms(settings)
        build_sampler(settings.sampler, 0)
        build_pruner(settings.pruner)
        check_storage(settings)

    def automatic_pruner(self, sampler: str) -> str:
        """Stops trials that are behind most others at the same epoch."""
        return "percentile"


def check_storage(settings: Settings) -> None:
    """Open the database of the study, if it is not a file.

    Raises:
        UserError: it cannot be opened.
    """
    if settings.storage is not None:
        from .storage import open_database

        open_database(settings.storage)


ENGINE = OptunaEngine()
