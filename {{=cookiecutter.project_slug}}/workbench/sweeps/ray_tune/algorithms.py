"""Ray Tune's searchers and schedulers, by the names of samplers and pruners in the configs."""

import warnings
from typing import Any

from ..optuna_engine import build_sampler
from ..settings import Settings
from ..types import Value
from . import POPULATIONS, mutated
from .space import TuneSpace

# More reports than any trial makes, for schedulers that do not depend on the length.
ENDLESS = 1_000_000
# What a trial reports to Ray Tune after each epoch, or after each validation.
EPOCH, VALUE = "epoch", "value"


def build_searcher(
    settings: Settings, space: TuneSpace, points: list[dict[str, Value]], seed: int | None
) -> Any:
    """The searcher of `hydra.sweeper.sampler`, which starts with the `points`."""
    # Options that a point leaves open are random.
    drawn = [{key: d.sample() for key, d in space.distributions().items()} for _ in points]
    first = [draw | space.config_of(p) for draw, p in zip(drawn, points, strict=True)] or None
    options = {key: value for key, value in settings.sampler.items() if key != "name"}
    if not proposes(settings, space):
        from ray.tune.search import BasicVariantGenerator

        return BasicVariantGenerator(points_to_evaluate=first, random_state=seed)
    match settings.sampler["name"]:
        case "hyperopt":
            from ray.tune.search.hyperopt import HyperOptSearch

            return HyperOptSearch(points_to_evaluate=first, random_state_seed=seed, **options)
        case "bohb":
            with warnings.catch_warnings():
                # The package has invalid escape sequences.
                warnings.simplefilter("ignore", SyntaxWarning)
                from ray.tune.search.bohb import TuneBOHB

            return TuneBOHB(points_to_evaluate=first, seed=seed, **options)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(points_to_evaluate=first, sampler=build_sampler(settings.sampler, seed))


def proposes(settings: Settings, space: TuneSpace) -> bool:
    """Whether a model-based algorithm proposes the points, which are neither random nor listed."""
    is_population = settings.pruner["name"] in POPULATIONS
    return not (space.points or is_population or settings.sampler["name"] == "random")


def build_scheduler(settings: Settings, space: TuneSpace, max_epochs: int | None) -> Any:
    """The scheduler of `hydra.sweeper.pruner`.

    Args:
        settings: the options of the sweep.
        space: what varies.
        max_epochs: the length of a trial; None if it is not limited in epochs, which `check_length`
            rejects for schedulers that divide it.
    """
    length = max_epochs or ENDLESS
    from ray.tune import schedulers

    options = {key: value for key, value in settings.pruner.items() if key != "name"}
    match settings.pruner["name"]:
        case "asha":
            return schedulers.ASHAScheduler(
                time_attr=EPOCH,
                max_t=length,
                grace_period=options["min_resource"],
                reduction_factor=options["reduction_factor"],
            )
        case "hyperband":
            return schedulers.HyperBandScheduler(
                time_attr=EPOCH, max_t=length, reduction_factor=options["reduction_factor"]
            )
        case "bohb":
            return schedulers.HyperBandForBOHB(time_attr=EPOCH, max_t=length, **options)
        case "median":
            return schedulers.MedianStoppingRule(
                time_attr=EPOCH,
                grace_period=options["n_warmup_steps"],
                min_samples_required=options["n_startup_trials"],
            )
        case "pbt":
            keys = mutated(settings, space.space)
            entries = space.distributions()
            options.pop("mutate")
            return schedulers.PopulationBasedTraining(
                time_attr=EPOCH,
                hyperparam_mutations={key: _mutations(entries[key]) for key in keys},
                custom_explore_fn=space.inside,
                **options,
            )
        case "pb2":
            from ray.tune.schedulers.pb2 import PB2

            keys = mutated(settings, space.space)
            options.pop("mutate")
            return PB2(
                time_attr=EPOCH,
                hyperparam_bounds={key: space.bounds(key) for key in keys},
                custom_explore_fn=space.inside,
                **options,
            )
    return schedulers.FIFOScheduler()


def _mutations(distribution: Any) -> Any:
    """Choices as a list, in which PBT moves to neighbours; it multiplies anything else."""
    return getattr(distribution, "categories", distribution)
