"""What a sweep does: its plan, and what all of its trials have in common."""

import pickle  # nosec B403
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict, read_write

from ..errors import UserError
from ..runs.config import folds_to_train
from .engines import Engine, load_engine
from .settings import Settings, objective_of
from .space import Space, options_of, typed
from .trial_channel import unit_of
from .types import Objective, Unit, Value

DEFAULT_TRIALS = 20
# What shows a single run has no reader among a hundred.
LEFT_OUT = ("loss_curves", "model_summary", "run_texts", "device", "gradient_norms")


@dataclass(frozen=True)
class Base:
    """What all trials of a sweep have in common.

    Attributes:
        config_loader: composes configs, from the folders that the command named.
        master: the config of the sweep itself.
        fixed: the command's options that do not vary, and those of every trial.
        groups: which parameters choose a config file.
        composed: the config with only these, pickled.
        script: the script of the command, which DDP starts again.
        objective: what is reported after every epoch or validation.
        seeds: how often a point is trained, with one seed after the other.
        function: the function that trains, by its name, such as `my_project.training.train`.
        folds: how many folds each of these trainings has; None without cross-validation.
        study: the sweep's name.
        parent_run: the sweep's run in MLflow.
    """

    config_loader: ConfigLoader
    master: DictConfig
    fixed: list[str]
    groups: frozenset[str]
    composed: bytes
    script: str
    objective: Objective
    seeds: int
    function: str
    folds: int | None = None
    study: str = ""
    parent_run: str | None = None

    def compose(self, params: Mapping[str, Value], folder: Path) -> DictConfig:
        """The config of a trial, which runs in `folder`."""
        options = [*self.fixed, *options_of(params)]
        if self.groups & params.keys():
            config = self.config_loader.load_sweep_config(self.master, options)
        else:
            # Ten times as fast, and the same: values come after all files in any case.
            # Pickled by the sweep's own process.
            config = pickle.loads(self.composed)  # nosec B301
            for key, value in params.items():
                if isinstance(value, str):
                    value = parsed(f"{key}={value}")
                with flag_override(config, "struct", not key.startswith("+")):
                    OmegaConf.update(config, key.lstrip("+"), value, merge=True)
        with read_write(config), open_dict(config):
            config.hydra.run.dir = config.hydra.runtime.output_dir = str(folder)
            # The trial's file takes all that is printed, and the console is the sweep's.
            config.hydra.job_logging.root.handlers = ["file"]
            config.hydra.overrides.task = options
            if self.folds is not None:
                # The others are trained in `run_trial`.
                config.data.fold = 0
        return config

    def repeats(self) -> list["Repeat"]:
        """The trainings of a point."""
        seeds = [f"seed_{seed}" for seed in range(self.seeds)] if self.seeds > 1 else [""]
        folds = [f"fold_{fold}" for fold in range(self.folds)] if self.folds else [""]
        return [
            Repeat(seed, fold if self.folds else None, "/".join(filter(None, (first, second))))
            for seed, first in enumerate(seeds)
            for fold, second in enumerate(folds)
        ]


@dataclass(frozen=True)
class Repeat:
    """One of the trainings of a point, whose results are averaged.

    Attributes:
        seed: what is added to the config's seed.
        fold: the fold that is held out; None without cross-validation.
        folder: where it writes, below the trial's folder; empty if the point is trained once.
    """

    seed: int
    fold: int | None
    folder: str


@dataclass(frozen=True)
class Identity:
    """What the results of a study depend on; texts are as they are typed in a command.

    Attributes:
        question: the search space, the objectives and what else makes results comparable at all.
        sweeper: the sampler, the pruner and the limits.
        options: the options of a trial that do not vary, those of the config files included. Where
            a config group varies, `<option> with <group>=<choice>` has what else a choice sets.
        code: a hash of each module.
        data: size and fingerprint of each split.
        fixed: the options of the command that do not vary; they are not compared.
    """

    question: dict[str, str]
    sweeper: dict[str, str]
    options: dict[str, str | None]
    code: dict[str, str]
    data: dict[str, dict[str, Any]]
    fixed: list[str]

    def is_same(self, other: "Identity") -> bool:
        """Whether trials of both answer the same question."""
        return asdict(self) | {"fixed": []} == asdict(other) | {"fixed": []}

    def options_of_trial(self, params: Mapping[str, Value]) -> dict[str, str]:
        """All options of a trial that did not vary, by their names."""
        chosen = options_of(params)
        found: dict[str, str | None] = {}
        for name, value in self.options.items():
            key, _, condition = name.partition(" with ")
            if not condition or condition in chosen:
                found[key] = value
        return {key: value for key, value in found.items() if value is not None}


@dataclass(frozen=True)
class Plan:
    """What a sweep is to do.

    Attributes:
        folder: where it writes.
        name: the study's name.
        settings: what the sweeper was told.
        space: what varies.
        base: what all trials have in common.
        objectives: what is optimised.
        fixed: the command's options that do not vary.
        points: all points to be tried, or None where the sampler proposes them.
        identity: what the results depend on, once the data have been read.
    """

    folder: Path
    name: str
    settings: Settings
    space: Space
    base: Base
    objectives: list[Objective]
    fixed: list[str]
    points: list[dict[str, Value]] | None
    identity: Identity | None = None

    @property
    def config(self) -> DictConfig:
        """The config of a trial, but for what varies."""
        # Pickled by `make_base`.
        return pickle.loads(self.base.composed)  # nosec B301

    def compose(self, options: Sequence[str]) -> DictConfig:
        """The config of a trial with these options."""
        base = self.base
        return base.config_loader.load_sweep_config(base.master, [*base.fixed, *options])

    @property
    def n_trials(self) -> int:
        """How many trials there will be, those of earlier commands included."""
        default = DEFAULT_TRIALS if self.points is None else len(self.points)
        return self.settings.n_trials or default

    @property
    def unit(self) -> Unit:
        """What the reports of a trial count."""
        return unit_of(self.config.trainer)

    @property
    def has_schedules(self) -> bool:
        """Whether the options of a trial change while it trains."""
        return self.engine.changes_options(self.settings)

    @property
    def engine(self) -> Engine:
        """Who searches."""
        return load_engine(self.settings.engine)

    @property
    def groups(self) -> frozenset[str]:
        """Which options choose a config file."""
        loader = self.base.config_loader
        known = [*loader.list_groups(""), *(f"hydra/{g}" for g in loader.list_groups("hydra"))]
        return self.base.groups | ({word.partition("=")[0] for word in self.fixed} & set(known))


def make_base(
    config_loader: ConfigLoader,
    master: DictConfig,
    fixed: list[str],
    space: Space,
    settings: Settings,
) -> Base:
    """Compose what all trials have in common."""
    plain = config_loader.load_sweep_config(master, fixed)
    objective = objective_of(plain)
    package = __name__.rpartition(".")[0]
    reporter = f"{package}.reporter.TrialReporter"
    options = [
        *fixed,
        "test=false",
        "trainer.profiler=null",
        # The check before the first trial has looked at the validation.
        "trainer.num_sanity_val_steps=0",
        *(f"++callbacks.{name}=null" for name in LEFT_OUT),
        f"+callbacks.report={{_target_:{reporter},metric:{typed(objective.metric)}}}",
    ]
    options += load_engine(settings.engine).trial_options(settings)
    composed = config_loader.load_sweep_config(master, options)
    return Base(
        config_loader=config_loader,
        master=master,
        fixed=options,
        groups=frozenset(p.key for p in space.parameters if p.is_group),
        composed=pickle.dumps(composed),
        script=str(Path(sys.argv[0]).absolute()),
        objective=objective,
        seeds=settings.seeds,
        function=settings.function,
        folds=_folds(plain, space),
    )


def _folds(config: DictConfig, space: Space) -> int | None:
    """How many folds each point is trained on.

    Raises:
        UserError: the number of folds varies, so that no two points would be comparable.
    """
    varied = [parameter.key.lstrip("+") for parameter in space.parameters]
    if "data.folds" in varied:
        raise UserError(
            "data.folds cannot vary in a sweep, which compares all points on the same folds: give "
            "one value, or vary data.fold to treat folds as trials."
        )
    return None if "data.fold" in varied else folds_to_train(config)


def parsed(option: str) -> Any:
    """The value of an option, as Hydra reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_override(option).value()
