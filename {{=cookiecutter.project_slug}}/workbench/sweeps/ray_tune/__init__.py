"""Sweeps under Ray Tune, by `hydra/sweeper=ray`, with population-based training, BOHB and HyperOpt.

An option: it can be deleted, together with `ray.yaml`, `sampler/{bohb,hyperopt}.yaml` and
`pruner/{bohb,pb2,pbt}.yaml` in `configs/hydra/sweeper/`.
"""

import math
from importlib.metadata import version
from importlib.util import find_spec

from ...checks import require
from ...errors import UserError, nearest
from ..engines import Engine
from ..optuna_engine import SAMPLERS, build_sampler
from ..settings import Settings
from ..space import Space

OLDEST_RAY = (2, 60)
# Samplers besides Optuna's, and their packages; each is an extra of the same name.
SEARCHERS = {"hyperopt": ("hyperopt",), "bohb": ("hpbandster", "ConfigSpace")}
# They train all trials concurrently, and let the worst continue from the best.
POPULATIONS = ("pbt", "pb2")
# They divide the number of epochs among the trials.
DIVIDING = ("hyperband", "bohb")
# They pause trials, so all trials must exist from the start.
PAUSING = (*POPULATIONS, *DIVIDING)
# The options of each pruner: the type, the minimum and the maximum.
Kind = tuple[str, float, float]
INTEGER: Kind = ("an integer", 1, math.inf)
FACTOR: Kind = ("an integer", 2, math.inf)
FRACTION: Kind = ("a number", 0, 1)
HALF: Kind = ("a number", 0, 0.5)
OPTIONS = {"perturbation_interval": INTEGER, "quantile_fraction": HALF}
SCHEDULERS: dict[str, dict[str, Kind]] = {
    "asha": {"min_resource": INTEGER, "reduction_factor": FACTOR},
    "bohb": {"reduction_factor": FACTOR},
    "hyperband": {"reduction_factor": FACTOR},
    "median": {"n_startup_trials": INTEGER, "n_warmup_steps": INTEGER},
    "none": {},
    "pb2": OPTIONS,
    "pbt": OPTIONS | {"resample_probability": FRACTION},
}
# In config files that Optuna reads too, without effect here.
UNUSED = {"hyperband": ("min_resource", "max_resource")}


class TuneEngine(Engine):
    """Ray Tune's algorithms, whose state is in its own files."""

    name = "ray"
    sweep = f"{__package__}.sweep.TuneSweep"
    cluster = "ray"
    samplers = tuple(SEARCHERS)
    pruners = ("bohb", *POPULATIONS)
    keeps_algorithms = True

    def check(self, settings: Settings, space: Space, folds: int | None) -> None:
        """Check packages, algorithms and their options.

        Raises:
            UserError: something is missing, invalid or not supported by Ray Tune.
        """
        _check_packages()
        sampler, pruner = settings.sampler.get("name"), settings.pruner.get("name")
        known = [*SAMPLERS, *SEARCHERS]
        if sampler not in known:
            raise UserError(f"Ray Tune has no sampler {sampler!r}; {nearest(str(sampler), known)}")
        if pruner not in SCHEDULERS:
            hint = nearest(str(pruner), SCHEDULERS)
            raise UserError(f"Ray Tune has no pruner {pruner!r}; {hint}")
        if (sampler == "bohb") != (pruner == "bohb"):
            raise UserError(
                "BOHB both proposes and prunes: give hydra/sweeper/sampler=bohb "
                "hydra/sweeper/pruner=bohb."
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
            ("seeds", 1, "it trains each configuration once"),
            ("epochs", None, "it has n_trials and timeout only"),
            ("patience", None, "it has n_trials and timeout only"),
            ("terminator", False, "it has n_trials and timeout only"),
        ):
            if getattr(settings, name) != empty:
                raise _unsupported(f"hydra.sweeper.{name}", instead)
        if folds:
            raise _unsupported("data.folds", "it trains each configuration once")

    def automatic_pruner(self, sampler: str) -> str:
        """Successive halving, but for BOHB, which needs its own Hyperband."""
        return "bohb" if sampler == "bohb" else "asha"

    def changes_options(self, settings: Settings) -> bool:
        """Only population-based training does."""
        return settings.pruner.get("name") in POPULATIONS

    def trial_options(self, settings: Settings) -> list[str]:
        """The callback that applies the changed options."""
        target = f"{__package__}.fresh_options.FreshOptions"
        changes = self.changes_options(settings)
        return [f"+callbacks.fresh_options._target_={target}"] if changes else []


def check_length(settings: Settings, max_epochs: int | None, is_endless: bool) -> None:
    """Check that trials end, and that the number of epochs is known if the pruner needs it.

    Args:
        settings: the options of the sweep.
        max_epochs: the length of a trial; None if it is not limited in epochs.
        is_endless: whether a trial has no limit at all.

    Raises:
        UserError: they do not, or it is not.
    """
    name = settings.pruner["name"]
    if is_endless:
        raise UserError(
            "Ray Tune needs a limit for each trial: give trainer.max_epochs or trainer.max_steps."
        )
    if name in DIVIDING and max_epochs is None:
        raise UserError(
            f"hydra/sweeper/pruner={name} divides trainer.max_epochs among the trials: give it and "
            "validate once per epoch, or use hydra/sweeper/pruner=asha."
        )


def mutated(settings: Settings, space: Space) -> list[str]:
    """The options that change while a population trains."""
    keys = [parameter.key for parameter in space.parameters]
    return [key for key in settings.pruner["mutate"] if key in keys]


def _check_packages() -> None:
    """Check that Ray is installed, with Tune, and not too old."""
    if not all(map(find_spec, ("ray", "pandas", "pyarrow"))):
        raise UserError(
            "hydra/sweeper=ray needs Ray Tune: install it with `uv sync --extra ray` or "
            "`pip install 'ray[tune]'`."
        )
    found = version("ray")
    if tuple(map(int, found.split(".")[:2])) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise UserError(
            f"hydra/sweeper=ray needs Ray {oldest} or later, and {found} is installed: update it "
            "with `uv sync --extra ray` or `pip install -U 'ray[tune]'`."
        )


def _unsupported(option: str, reason: str) -> UserError:
    return UserError(
        f"Ray Tune does not support {option}: {reason}. "
        "Use hydra/sweeper=optuna hydra.sweeper.workers=ray instead."
    )


def _check_options(settings: Settings) -> None:
    options = dict(settings.pruner)
    name = options.pop("name")
    if name in POPULATIONS:
        mutate = options.pop("mutate", None)
        is_valid = isinstance(mutate, list) and all(isinstance(key, str) for key in mutate)
        require(is_valid, "hydra.sweeper.pruner.mutate", "a list of options", mutate)
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
                f"{key} is a config group or depends on one, and cannot change during a trial: "
                "remove it from hydra.sweeper.pruner.mutate."
            )
        if name == "pb2" and kinds[key].choices is not None:
            raise UserError(
                f"pb2 only changes numbers, and {key} has choices: use hydra/sweeper/pruner=pbt, "
                "or remove it from hydra.sweeper.pruner.mutate."
            )


ENGINE = TuneEngine()
