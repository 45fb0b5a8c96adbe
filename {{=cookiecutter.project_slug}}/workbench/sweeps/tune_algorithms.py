"""What Ray Tune searches and judges with, by the names in `configs/hydra/sweeper/`."""

import math
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from ..errors import UserError, nearest
from .samplers import SAMPLERS, build_sampler
from .settings import Settings
from .space import Space
from .tune_space import TuneSpace
from .types import Value

OLDEST_RAY = (2, 60)
# The packages of what Ray Tune has besides Optuna's samplers, each an extra of the same name.
SEARCHERS = {"hyperopt": ("hyperopt",), "bohb": ("hpbandster", "ConfigSpace")}
# They train all trials side by side, from random points, and let the worst go on from the best.
POPULATIONS = ("pbt", "pb2")
# They divide a number of epochs among the trials.
DIVIDING = ("hyperband", "bohb")
# They pause trials, and need all of them for it.
PAUSING = (*POPULATIONS, *DIVIDING)
# More reports than a trial makes, for those that only compare trials that have come as far.
ENDLESS = 1_000_000
# Their options: what they are in words, and the least and the greatest.
Kind = tuple[str, float, float]
WHOLE: Kind = ("a whole number", 1, math.inf)
FACTOR: Kind = ("a whole number", 2, math.inf)
SHARE: Kind = ("a number", 0, 1)
HALF: Kind = ("a number", 0, 0.5)
OPTIONS = {"perturbation_interval": WHOLE, "quantile_fraction": HALF}
SCHEDULERS: dict[str, dict[str, Kind]] = {
    "asha": {"min_resource": WHOLE, "reduction_factor": FACTOR},
    "bohb": {"reduction_factor": FACTOR},
    "hyperband": {"reduction_factor": FACTOR},
    "median": {"n_startup_trials": WHOLE, "n_warmup_steps": WHOLE},
    "none": {},
    "pb2": OPTIONS,
    "pbt": OPTIONS | {"resample_probability": SHARE},
}
# Set in files that Optuna reads too, where they mean something.
UNUSED = {"hyperband": ("min_resource", "max_resource")}
# What a trial reports to Ray Tune after each epoch, or after each validation.
EPOCH, VALUE = "epoch", "value"


def check_tune(settings: Settings, space: Space) -> None:
    """Find what Ray Tune cannot do, before anything is imported.

    Raises:
        UserError: an algorithm that it lacks, or two that do not go together.
    """
    _check_packages()
    sampler, pruner = settings.sampler.get("name"), settings.pruner.get("name")
    known = [*SAMPLERS, *SEARCHERS]
    if sampler not in known:
        raise UserError(f"Ray Tune has no sampler {sampler!r}; {nearest(str(sampler), known)}")
    if pruner not in SCHEDULERS:
        raise UserError(f"Ray Tune has no pruner {pruner!r}; {nearest(str(pruner), SCHEDULERS)}")
    if (sampler == "bohb") != (pruner == "bohb"):
        raise UserError(
            "BOHB proposes and judges: give hydra/sweeper/sampler=bohb hydra/sweeper/pruner=bohb."
        )
    for package in SEARCHERS.get(str(sampler), ()):
        if find_spec(package) is None:
            raise UserError(
                f"hydra/sweeper/sampler={sampler} needs the package {package}: install it with "
                f"`uv sync --extra {sampler}` or `pip install {' '.join(SEARCHERS[sampler])}`."
            )
    _check_options(settings)
    if pruner in POPULATIONS:
        _check_population(settings, space)
    if sampler not in SEARCHERS:
        build_sampler(settings.sampler, 0)
    for name, empty, instead in (
        ("more_objectives", {}, "it has one objective"),
        ("storage", None, "it keeps its own state"),
        ("seeds", 1, "it trains each point once"),
    ):
        if getattr(settings, name) != empty:
            raise UserError(
                f"Ray Tune cannot do hydra.sweeper.{name}: {instead}. "
                "hydra/sweeper=optuna hydra.sweeper.workers=ray can."
            )


def check_length(settings: Settings, max_epochs: int | None, is_endless: bool) -> None:
    """Refuse trials without an end, or without a number of epochs where it has to be known.

    Args:
        settings: the options of the sweep.
        max_epochs: how long a trial may train; None where that is not known in epochs.
        is_endless: whether a trial has no limit at all.

    Raises:
        UserError: such trials.
    """
    name = settings.pruner["name"]
    if is_endless:
        raise UserError(
            "Ray Tune has to know how long a trial is: give trainer.max_epochs or "
            "trainer.max_steps."
        )
    if name in DIVIDING and max_epochs is None:
        raise UserError(
            f"hydra/sweeper/pruner={name} divides trainer.max_epochs among the trials: limit them "
            "by it and validate once per epoch, or give hydra/sweeper/pruner=asha."
        )


def build_searcher(
    settings: Settings, space: TuneSpace, points: list[dict[str, Value]], seed: int | None
) -> Any:
    """What proposes.

    Args:
        settings: the options of the sweep.
        space: what varies.
        points: those to try first.
        seed: for the same proposals again.
    """
    # What a point leaves open is left to chance.
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
                # Its package is older than Python's rules for backslashes.
                warnings.simplefilter("ignore", SyntaxWarning)
                from ray.tune.search.bohb import TuneBOHB

            return TuneBOHB(points_to_evaluate=first, seed=seed, **options)
    import optuna
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(points_to_evaluate=first, sampler=build_sampler(settings.sampler, seed))


def proposes(settings: Settings, space: TuneSpace) -> bool:
    """Whether an algorithm proposes the points, rather than chance or a list."""
    is_population = settings.pruner["name"] in POPULATIONS
    return not (space.points or is_population or settings.sampler["name"] == "random")


def build_scheduler(settings: Settings, space: TuneSpace, max_epochs: int | None) -> Any:
    """What judges.

    Args:
        settings: the options of the sweep.
        space: what varies.
        max_epochs: how long a trial may train; None where that is not known in epochs, which
            `check_length` refuses for those that divide it.
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


def mutated(settings: Settings, space: Space) -> list[str]:
    """The options that change while a population trains."""
    keys = [parameter.key for parameter in space.parameters]
    return [key for key in settings.pruner["mutate"] if key in keys]


def _mutations(distribution: Any) -> Any:
    """Choices as a list, whose neighbours PBT goes to; Ray Tune multiplies anything else."""
    return getattr(distribution, "categories", distribution)


def _check_packages() -> None:
    """Refuse a Ray that is missing, came without Tune, or is too old."""
    if not all(map(find_spec, ("ray", "pandas", "pyarrow"))):
        raise UserError(
            "hydra/sweeper=ray needs Ray Tune: install it with `uv sync --extra ray` or "
            "`pip install 'ray[tune]'`."
        )
    found = version("ray")
    if tuple(map(int, found.split(".")[:2])) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise UserError(
            f"hydra/sweeper=ray needs Ray {oldest} or later, and {found} is installed: "
            "`uv sync --extra ray` or `pip install -U 'ray[tune]'` brings it."
        )


def _check_options(settings: Settings) -> None:
    options = dict(settings.pruner)
    name = options.pop("name")
    if name in POPULATIONS:
        mutate = options.pop("mutate", None)
        if not (isinstance(mutate, list) and all(isinstance(key, str) for key in mutate)):
            raise UserError(f"hydra.sweeper.pruner.mutate is a list of options, not {mutate!r}.")
    for option, value in options.items():
        known = SCHEDULERS[name]
        if option in UNUSED.get(name, ()):
            continue
        if option not in known:
            hint = nearest(option, known)
            raise UserError(f"hydra.sweeper.pruner ({name}) has no {option!r}; {hint}")
        words, least, most = known[option]
        is_number = isinstance(value, int) or (words == "a number" and isinstance(value, float))
        if not is_number or isinstance(value, bool) or not least <= value <= most:
            limits = f"from {least:g}" + ("" if most == math.inf else f" to {most:g}")
            raise UserError(f"hydra.sweeper.pruner.{option} is {words} {limits}, not {value!r}.")


def check_engine(settings: Settings) -> None:
    """Refuse what only Ray Tune has, for another engine.

    Raises:
        UserError: such a sampler or pruner.
    """
    for kind, names in (("sampler", SEARCHERS), ("pruner", ("bohb", *POPULATIONS))):
        name = getattr(settings, kind).get("name")
        if name in names:
            raise UserError(f"hydra/sweeper/{kind}={name} needs hydra/sweeper=ray.")


def _check_population(settings: Settings, space: Space) -> None:
    name = settings.pruner["name"]
    keys = mutated(settings, space)
    if not keys:
        raise UserError(
            f"hydra/sweeper/pruner={name} may change {', '.join(settings.pruner['mutate'])}, and "
            "the search space has none of them: give hydra.sweeper.pruner.mutate=[<option>]."
        )
    kinds = {parameter.key: parameter for parameter in space.parameters}
    for key in keys:
        if kinds[key].is_group or kinds[key].when:
            raise UserError(
                f"{key} decides what a model is made of, or depends on it, and cannot change while "
                "it trains: leave it out of hydra.sweeper.pruner.mutate."
            )
        if name == "pb2" and kinds[key].choices is not None:
            raise UserError(
                f"pb2 changes numbers, and {key} has choices: use pruner=pbt, or leave it out of "
                "hydra.sweeper.pruner.mutate."
            )
